"""WSaaS: a gateway that holds WebSockets for backends that only speak plain HTTP."""

from importlib.metadata import version as _version

__version__ = _version("wsaas")
