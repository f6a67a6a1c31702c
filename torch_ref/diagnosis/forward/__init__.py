"""The forward pass as data, its mistakes, and which of them explains what comes out."""
