"""The memory of the process: its limit, its use, and the garbage collector."""
