"""Which mistakes explain an implementation's gradients: one, one confined, several."""
