"""Sockets: listening, connecting, TLS, and the protocols of client connections."""
