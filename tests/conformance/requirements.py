"""Every MUST, MUST NOT and REQUIRED of RFC 6455 for servers and receivers, paraphrased.

A key is the number of a section and of a requirement within it. Requirements that are met by not implementing a feature
are listed too. Requirements for others are left out: clients and browsers, intermediaries, authors of extensions, the
registry. TLS (step 1 of section 4.2.2, section 10.6) is tested in tests/integration/test_tls.py.
"""

from collections.abc import Callable
from typing import TypeVar

REQUIREMENTS = {
    # The opening handshake
    "4.2.1-1": "An invalid handshake is not processed further and gets an HTTP error.",
    "4.2.1-2": "The handshake is a GET of HTTP/1.1 or a later version.",
    "4.2.1-3": "Its target is a path, or an http or https URI with a path, without a fragment.",
    "4.2.1-4": "It has a Host.",
    "4.2.1-5": "Its Upgrade header contains websocket, in any case.",
    "4.2.1-6": "Its Connection header lists upgrade, in any case.",
    "4.2.1-7": "Its Sec-WebSocket-Key is 16 bytes in base64.",
    "4.2.1-8": "Its Sec-WebSocket-Version is exactly 13.",
    "4.2.1-9": "Its Sec-WebSocket-Protocol, if any, lists one or more distinct tokens.",
    "4.2.1-10": "Its Sec-WebSocket-Extensions, if any, follows the grammar of section 9.1.",
    "4.2.2-1": "A forbidden origin gets an HTTP error instead of a 101.",
    "4.2.2-2": "Another version gets an HTTP error with the supported versions.",
    "4.2.2-3": "A service that is not available gets an HTTP error such as 404 instead of a 101.",
    "4.2.2-4": "The subprotocol of the answer was offered by the client.",
    "4.2.2-5": "Without an agreed subprotocol, the answer has no Sec-WebSocket-Protocol, not even an empty one.",
    "4.2.2-6": "The extensions of the answer were offered by the client.",
    "4.2.2-7": "An accepted client gets a valid HTTP response with the status 101.",
    "4.2.2-8": "The 101 has Upgrade: websocket.",
    "4.2.2-9": "The 101 has Connection: Upgrade.",
    "4.2.2-10": "Its Sec-WebSocket-Accept is the base64 of the SHA-1 of the key and the fixed GUID.",
    "4.4-1": "The answer to an unsupported version lists every supported version.",
    # Frames
    "5.1-1": "An unmasked frame ends the connection.",
    "5.1-2": "A server does not mask its frames.",
    "5.2-1": "Reserved bits of sent frames are 0 unless an extension uses them.",
    "5.2-2": "A reserved bit that no extension uses fails the connection.",
    "5.2-3": "An unknown opcode fails the connection.",
    "5.2-4": "The top bit of a length in 8 bytes is 0.",
    "5.2-5": "A length is sent in its shortest form.",
    "5.2-6": "A received length that is not in its shortest form is not accepted.",
    "5.4-1": "Neither sent nor received control frames are fragmented.",
    "5.4-2": "Fragments are delivered in the order in which they were sent.",
    "5.4-3": "Fragments of different messages are not interleaved.",
    "5.4-4": "Control frames between the fragments of a message are handled.",
    "5.4-5": "Messages are received in one frame and in several frames.",
    "5.4-6": "All fragments of a message have the type of the first one.",
    "5.4-7": "The meaning of a message does not depend on its frame boundaries.",
    "5.5-1": "The payload of a sent or received control frame is at most 125 bytes.",
    "5.5.1-1": "The body of a Close, if any, begins with a two-byte code of section 7.4.",
    "5.5.1-2": "No data frame is sent after a Close.",
    "5.5.1-3": "A Close is answered with a Close, unless one was sent before.",
    "5.5.1-4": "After a Close was sent and received, in any order, the server closes the TCP connection at once.",
    "5.5.1-5": "A client's Close is masked too.",
    "5.5.2-1": "A Ping is answered with a Pong, unless a Close was received before.",
    "5.5.3-1": "The answer to a Ping has the same payload.",
    "5.6-1": "A complete text is valid UTF-8; its fragments need not be.",
    "5.8-1": "Only extensions negotiated in the handshake are used.",
    "6.1-1": "A message is sent only while the connection is open.",
    "6.1-2": "A message is sent in frames.",
    "6.1-3": "The opcode of its first frame says whether it is text or binary.",
    "6.1-4": "Its last frame is marked as final.",
    "6.1-5": "The frames of a message are sent.",
    "6.2-1": "Received data is parsed as frames.",
    "6.2-2": "A control frame is handled as specified in section 5.5.",
    "6.2-3": "The type of a received message is that of its first frame.",
    "6.2-4": "The data frame after a complete message starts a new message.",
    "6.2-5": "The server unmasks received data.",
    # Closing
    "7.1.2-1": "A closing handshake starts with a Close that has the requested code and reason.",
    "7.1.7-1": "To fail a connection, the server closes it.",
    "7.1.7-2": "Data received after a failure is not processed, not even a Close.",
    "7.2.2-1": "To abort an opening handshake, the server closes the connection.",
    "7.4.1-1": "1005 is never sent in a Close.",
    "7.4.1-2": "1006 is never sent in a Close.",
    "7.4.1-3": "1015 is never sent in a Close.",
    # Further
    "8.1-1": "Invalid UTF-8 fails the connection, in the handshake as in messages.",
    "9-1": "The server accepts only extensions that the client offered.",
    "9.1-1": "A malformed offer of extensions fails the connection.",
    "10.4-1": "Limits on frames and messages are enforced.",
    "10.7-1": "Received data is validated.",
    "11.3.1-1": "A request has Sec-WebSocket-Key once.",
    "11.3.2-1": "A response has Sec-WebSocket-Extensions at most once.",
    "11.3.3-1": "A response has Sec-WebSocket-Accept at most once.",
    "11.3.4-1": "A response has Sec-WebSocket-Protocol at most once.",
    "11.3.5-1": "A request has Sec-WebSocket-Version once.",
}

Tested = TypeVar("Tested", bound=Callable[..., object])


def covers(*numbers: str) -> Callable[[Tested], Tested]:
    """Mark a test with the requirements that it covers. Raises `KeyError` for an unknown number."""
    for number in numbers:
        REQUIREMENTS[number]

    def mark(test: Tested) -> Tested:
        test.covers = numbers  # type: ignore[attr-defined]  # functions take any attribute
        return test

    return mark
