"""Targets for a fuzzer: each takes any bytes and raises where what is promised of them does not hold.

`python -m tests.fuzz` tries inputs of its own, guided by coverage; `test_corpus.py` replays those that were kept.
"""
