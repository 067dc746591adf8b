"""Finds the process that holds a connection, and forwards requests to it."""
