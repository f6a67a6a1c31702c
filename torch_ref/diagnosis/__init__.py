"""From an implementation to the line that is wrong.

`diagnose.py` is the way through: it asks the implementation a few cases (`evidence.py`), then looks
for what explains the answers, from the plainest to the rarest. Below it, each using those before:

- `backward/`: the backward pass as data, computed, written as code and told in words.
- `mistakes/`: edits of that table, each with a sentence; `catalogue.py` keeps the distinct ones.
- `matching/`: which of them explain the gradients: one, one in part only, a number, several.
- `forward/`: the same for the forward pass, whose mistakes come before any gradient's.
- `locating/`: where the first wrong quantity is, for what nothing explains.

`step_gradients.py` reads every dz from outside, `blind_spots.py` says what a case cannot tell, and
`maps.py` and `elements.py` are what the pictures of a report are drawn from.
"""
