"""What a model sees in a pair or made of a run, as numbers and figures."""
