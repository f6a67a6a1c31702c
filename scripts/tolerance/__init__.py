"""What scripts/tolerance_study.py measures: false alarms, power, closeness, cost."""
