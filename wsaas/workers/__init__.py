"""Several processes for one node: a supervisor and its workers."""
