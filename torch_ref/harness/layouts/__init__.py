"""How others arrange weights, sequences and states, and what ours are in such an arrangement."""
