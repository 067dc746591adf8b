"""Hostile clients: what they do, the probes that measure healthy clients beside them, and one trial of them."""
