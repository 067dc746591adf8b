"""The bearer tokens of the REST API (RFC 6750)."""

from collections.abc import Sequence
from hmac import compare_digest


class BearerTokens:
    """The valid tokens. They may be replaced at any time, which takes effect with the next request.

    `generation`: how often they were replaced.
    """

    __slots__ = ("_tokens", "generation")

    def __init__(self, tokens: Sequence[bytes]) -> None:
        """Accept `tokens`."""
        self._tokens = tuple(tokens)
        self.generation = 0

    @property
    def header(self) -> bytes | None:
        """An `Authorization` that is accepted; None if there are no tokens."""
        return b"Bearer %b" % self._tokens[0] if self._tokens else None

    def replace(self, tokens: Sequence[bytes]) -> None:
        """Accept only `tokens` from now on."""
        self._tokens = tuple(tokens)
        self.generation += 1

    def accept(self, authorization: bytes | None) -> bool:
        """Return whether the value of an `Authorization` header contains one of the tokens."""
        scheme, _, given = (authorization or b"").partition(b" ")
        # Compare all tokens: constant time.
        found = sum(compare_digest(given.strip(b" "), token) for token in self._tokens)
        return found > 0 and scheme.lower() == b"bearer"
