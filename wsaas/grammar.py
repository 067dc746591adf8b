"""The token of HTTP (RFC 9110 section 5.6.2), which settings, headers and the WebSocket handshake share.

These regular expressions are parts of larger ones.
"""

from typing import Final

TOKEN_CHARACTER: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"  # noqa: S105 - no secret
TOKEN: Final = f"{TOKEN_CHARACTER}+"
"""The name of a header, a method, a subprotocol, an extension or a parameter."""

TOKEN_BYTES: Final = TOKEN.encode()
