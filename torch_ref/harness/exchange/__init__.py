"""Cases and results as files that any language can read and write."""
