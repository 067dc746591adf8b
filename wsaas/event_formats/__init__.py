"""Requests to the backend in the formats of other services, for backends that were written for those."""
