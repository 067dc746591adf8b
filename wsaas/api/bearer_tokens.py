"""The bearer tokens that the REST API asks for (RFC 6750)."""

from collections.abc import Sequence
from hmac import compare_digest


class BearerTokens:
    """The tokens that are valid now. They may be replaced at any time; each request is checked when it comes."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: Sequence[bytes]) -> None:
        """Accept `tokens`."""
        self._tokens = tuple(tokens)

    def replace(self, tokens: Sequence[bytes]) -> None:
        """Accept `tokens` from now on, and no others."""
        self._tokens = tuple(tokens)

    def accept(self, authorization: bytes | None) -> bool:
        """Return whether the value of an `Authorization` header carries one of the tokens."""
        scheme, _, given = (authorization or b"").partition(b" ")
        # All tokens are compared, so that the time shows nothing about them.
        found = sum(compare_digest(given.strip(b" "), token) for token in self._tokens)
        return found > 0 and scheme.lower() == b"bearer"
