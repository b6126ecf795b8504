"""Complete runs: train, evaluate, report; and ablations of many runs."""
