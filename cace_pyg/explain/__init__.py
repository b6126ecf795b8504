"""Explains a pair or a run of a model, as numbers and figures."""
