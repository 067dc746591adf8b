"""The token of HTTP (RFC 9110 section 5.6.2), which settings, headers and the WebSocket handshake share.

These regular expressions are parts of larger ones.
"""

import re
from typing import Final

TOKEN_CHARACTER: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"  # noqa: S105 - no secret
TOKEN: Final = f"{TOKEN_CHARACTER}+"
"""The name of a header, a method, a subprotocol, an extension or a parameter."""

TOKEN_BYTES: Final = TOKEN.encode()

MAX_GROUP_NAME: Final = 128
"""Characters of the longest group name."""

GROUP_NAME_FORM: Final = f"1 to {MAX_GROUP_NAME} characters of A-Z a-z 0-9 . _ ~ : @ ! -"
"""What a group name is, for error messages."""

_GROUP_NAME: Final = re.compile(rf"[A-Za-z0-9._~:@!-]{{1,{MAX_GROUP_NAME}}}")


def is_group_name(name: str) -> bool:
    """Return whether `name` can be the name of a group."""
    return _GROUP_NAME.fullmatch(name) is not None
