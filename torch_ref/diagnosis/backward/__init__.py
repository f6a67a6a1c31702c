"""The backward pass as data: its equations as a table, computed, rendered and told in words."""
