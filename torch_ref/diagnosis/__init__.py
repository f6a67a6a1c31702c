"""The backward pass as data, the mistakes made from it, and which of them explains a gradient."""
