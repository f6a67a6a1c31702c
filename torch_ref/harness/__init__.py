"""Cases to compare on, drawn or built."""
