"""Every target by its name: a function of any bytes, which raises on a finding."""

from collections.abc import Callable

from .frames import frames
from .handshakes import handshakes
from .requests import requests
from .responses import responses
from .verdicts import verdicts

TARGETS: dict[str, Callable[[bytes], None]] = {
    "requests": requests,
    "responses": responses,
    "frames": frames,
    "handshakes": handshakes,
    "verdicts": verdicts,
}
