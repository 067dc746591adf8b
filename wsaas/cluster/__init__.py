"""Finds the session of a connection id, in this process or (later) in another one."""
