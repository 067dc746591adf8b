"""Client sessions: their state, and the registry that finds them."""
