"""Lets boto3 reach the gateway by the addresses that functions make of an event.

They are `https://{domainName}/{stage}` and `https://{apiId}.execute-api.{region}.amazonaws.com/{stage}`.
"""

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

_HOST_AT_AWS: Final = re.compile(r"wsaas\.execute-api\.[a-z0-9-]+\.amazonaws\.com(\.cn)?")
"""The host that an API with the `apiId` of the events would have. The ids of AWS have ten characters."""


def lead_to_gateway(endpoint: str) -> None:
    """Make clients whose endpoint was made of an event reach the gateway. `endpoint`: that of the gateway.

    API Gateway speaks TLS only, so functions that name the endpoint themselves write `https://`.
    """
    gateway = urlsplit(endpoint)
    if not gateway.scheme or find_spec("botocore") is None:
        return
    session: Any = import_module("botocore.session").Session
    create = session.create_client

    def create_client(self: Any, *arguments: Any, **named: Any) -> Any:
        given = urlsplit(named.get("endpoint_url") or "")
        if _HOST_AT_AWS.fullmatch(given.netloc):
            named["endpoint_url"] = endpoint
        elif (given.scheme, given.netloc) == ("https", gateway.netloc):
            named["endpoint_url"] = given._replace(scheme=gateway.scheme).geturl()
        return create(self, *arguments, **named)

    session.create_client = create_client
