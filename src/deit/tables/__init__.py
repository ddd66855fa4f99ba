"""Predictions -> the paper's tables. What a plan reads of a table waits for neither pandas nor matplotlib."""
