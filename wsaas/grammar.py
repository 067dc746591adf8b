"""The grammar of HTTP that settings, headers and the WebSocket handshake share (RFC 9110 section 5.6).

Regular expressions, to be put into larger ones: as text, and as bytes.
"""

from typing import Final

TOKEN_CHARACTER: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"  # noqa: S105 - no secret
TOKEN: Final = f"{TOKEN_CHARACTER}+"
"""The name of a header, a method, a subprotocol, an extension or a parameter (section 5.6.2)."""

TOKEN_BYTES: Final = TOKEN.encode()
