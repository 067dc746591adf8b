"""Targets for a fuzzer: each takes any bytes, and raises if a promise about them is broken.

`python -m tests.fuzz` generates inputs, guided by coverage; `test_corpus.py` replays the kept ones.
"""
