"""The type of the setting `API_URI`."""

import re
from dataclasses import dataclass
from typing import Final

from wsaas.access import UNIX
from wsaas.setting_types import DEFAULT_PORTS, TARGET, accepting, split_url

MAX_SOCKET_PATH: Final = 103
"""Maximum number of bytes in the path of a Unix socket: `sun_path` has 104 on macOS and 108 on Linux, with a null."""

_SOCKET: Final = re.compile(r"/(?!/)[^:?#{}]*(?<!/)")


@dataclass(frozen=True, slots=True)
class Backend:
    """The URL of the backend. `target`: path and query, in which `{id}` is to be replaced.

    `socket`: the path of its Unix socket, empty for TCP. Its `host` is `localhost` then.
    """

    scheme: str
    host: str
    port: int
    target: str
    socket: str = ""

    @property
    def authority(self) -> str:
        """The `Host` header, without the default port of the scheme.

        It also leaves out the zone of an IPv6 address, which has a meaning only on this machine (RFC 6874 section 1).
        """
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def place(self) -> str:
        """Where it is, in the format of the setting: what comes before `target`."""
        return f"{UNIX}{self.socket}:" if self.socket else f"{self.scheme}://{self.authority}"


@accepting(
    "host:port/path, or an http:// or https:// URL, without credentials or fragment, or unix:/SOCKET:/path, where both "
    f"paths begin with a slash, and /SOCKET has at most {MAX_SOCKET_PATH} bytes, no space, no colon and no ?"
)
def backend(text: str) -> Backend:
    """Parse the URL of the backend. The default scheme is `http`."""
    if text.startswith(UNIX):
        return _on_unix_socket(text[len(UNIX) :])
    scheme, host, port, target = split_url(text)
    return Backend(scheme, host, port, target if target.startswith("/") else f"/{target}")


def _on_unix_socket(text: str) -> Backend:
    """Parse `/run/app.sock:/path`. The path of the URL may be left out, with its colon."""
    socket, mark, target = text.partition(":")
    target = target if mark else "/"
    is_usable = socket.isprintable() and " " not in socket and len(socket.encode()) <= MAX_SOCKET_PATH
    if not (is_usable and _SOCKET.fullmatch(socket) and target.startswith("/") and TARGET.fullmatch(target)):
        raise ValueError
    return Backend("http", "localhost", DEFAULT_PORTS["http"], target, socket)
