"""Metrics for Prometheus: what is exported, how the figures of several workers are added, and the encoding."""
