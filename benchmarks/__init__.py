"""Benchmarks: `python -m benchmarks CASE`. Not tests: they print figures and judge nothing."""
