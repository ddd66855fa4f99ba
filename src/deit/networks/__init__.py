"""Networks: made, given, checked and evaluated, and where they run."""
