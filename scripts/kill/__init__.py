"""What scripts/kill_matrix.py runs: mistaken and correct LSTMs, our checks and those of others."""
