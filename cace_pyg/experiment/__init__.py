"""Whole runs: train, evaluate, report; ablations of many runs."""
