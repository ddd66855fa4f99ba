"""A file a table: what it asks of a study, how it is computed, what the paper finds by it."""
