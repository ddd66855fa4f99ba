"""Params -> the jobs of a study, before anything runs; what the rules ask."""
