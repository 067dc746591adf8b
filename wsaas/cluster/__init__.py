"""Finds out which process holds a connection, and passes requests on to it."""
