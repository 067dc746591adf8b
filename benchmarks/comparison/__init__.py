"""Gateways side by side under the load of the load generator."""
