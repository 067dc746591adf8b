"""Tests of the example backend and its page."""
