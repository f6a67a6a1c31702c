"""The parts of benchmark.py: what is run, and how it is timed, weighed and shown."""
