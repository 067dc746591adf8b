"""Events on their way to the backend: ordered, retried, journaled."""
