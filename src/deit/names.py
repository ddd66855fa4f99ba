"""What names may be made of."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""Of studies, models, supervisions and evaluation sets: they are parts of paths, wildcards and shell words."""
