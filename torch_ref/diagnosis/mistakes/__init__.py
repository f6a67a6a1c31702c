"""The mistakes of the backward pass: edits of its table, each with a sentence."""
