"""Delivers events to the backend: in order, with retries, and with a journal."""
