"""Requests by Schemathesis, made of the OpenAPI document of a running gateway."""
