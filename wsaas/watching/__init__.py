"""Watching connections for the console: what is recorded of them, in bounded memory, and who follows it."""
