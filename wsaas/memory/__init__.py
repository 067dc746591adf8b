"""The memory of the process: its limit, the memory in use, and garbage collection."""
