"""Benchmarks: each a script, `python -m benchmarks.<name> [--quick]`."""
