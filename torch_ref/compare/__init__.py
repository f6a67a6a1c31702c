"""How far two results are apart, how far rounding lets them be, and the gradient diff."""
