"""A gateway in Python, to compare with."""
