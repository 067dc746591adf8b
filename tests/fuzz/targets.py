"""All targets by name. Each is a function of any bytes, which raises on a finding."""

from collections.abc import Callable

from tests.fuzz.frames import frames
from tests.fuzz.handshakes import handshakes
from tests.fuzz.proxy_headers import proxy_headers
from tests.fuzz.requests import requests
from tests.fuzz.responses import responses
from tests.fuzz.verdicts import verdicts

TARGETS: dict[str, Callable[[bytes], None]] = {
    "requests": requests,
    "responses": responses,
    "frames": frames,
    "handshakes": handshakes,
    "verdicts": verdicts,
    "proxy_headers": proxy_headers,
}
