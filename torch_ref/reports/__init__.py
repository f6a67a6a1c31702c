"""What a person or a script reads of a comparison: a text table, JSON, an HTML page."""
