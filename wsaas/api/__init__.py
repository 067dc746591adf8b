"""The REST surface: what a backend asks of the connections."""
