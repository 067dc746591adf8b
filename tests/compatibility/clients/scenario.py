"""What each client in Python does, and how it reports what it has seen."""

import json
import sys
from collections.abc import Sequence

URL = sys.argv[1]
AUTHORIZATION = {"Authorization": "Bearer ada"}
EVERY_BYTE = bytes(range(256))
MESSAGES: Sequence[str | bytes] = ("Grüße 🎉", "", EVERY_BYTE, b"", EVERY_BYTE * 4096)


def report(
    subprotocol: str | None, echoes: Sequence[str | bytes], pushed: str, close: Sequence[int | str], refused: int | None
) -> None:
    """Print it as a line of JSON. `refused`: the status of a refused handshake, None if the library hides it."""
    same = [type(echo) is type(sent) and echo == sent for echo, sent in zip(echoes, MESSAGES, strict=True)]
    print(json.dumps({"subprotocol": subprotocol, "same": same, "pushed": pushed, "close": close, "refused": refused}))
