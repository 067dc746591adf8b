"""Lets boto3 reach the gateway by the address that functions make of an event: `https://{domainName}/{stage}`."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit


def lead_to_http(endpoint: str) -> None:
    """Make clients whose endpoint is the gateway use `http://`, if it speaks no TLS. `endpoint`: that of the gateway.

    API Gateway speaks TLS only, so functions that name the endpoint themselves write `https://`.
    """
    gateway = urlsplit(endpoint)
    if gateway.scheme != "http" or find_spec("botocore") is None:
        return
    session: Any = import_module("botocore.session").Session
    create = session.create_client

    def create_client(self: Any, *arguments: Any, **named: Any) -> Any:
        given = urlsplit(named.get("endpoint_url") or "")
        if (given.scheme, given.netloc) == ("https", gateway.netloc):
            named["endpoint_url"] = given._replace(scheme="http").geturl()
        return create(self, *arguments, **named)

    session.create_client = create_client
