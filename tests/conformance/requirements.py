"""Every MUST, MUST NOT and REQUIRED of RFC 6455 that binds a server or whoever receives, in our own words.

A number is that of the section, and of the demand within it. A demand that is met by not having a feature is listed
too. Left out is what binds others: clients and browsers, intermediaries that pass frames on, authors of extensions,
the registry; and TLS (step 1 of section 4.2.2, section 10.6), which is tested where a listener speaks it.
"""

from collections.abc import Callable
from typing import TypeVar

REQUIREMENTS = {
    # The opening handshake
    "4.2.1-1": "A handshake that is not as it has to be is processed no further and gets an HTTP error.",
    "4.2.1-2": "It is a GET of HTTP/1.1 or a later version.",
    "4.2.1-3": "Its target is a path, or an http or https URI with one, and a query if need be, but no fragment.",
    "4.2.1-4": "It has a Host.",
    "4.2.1-5": "Its Upgrade names websocket, in capitals or not.",
    "4.2.1-6": "Its Connection lists upgrade, in capitals or not.",
    "4.2.1-7": "Its Sec-WebSocket-Key is 16 bytes in base64.",
    "4.2.1-8": "Its Sec-WebSocket-Version is 13, written like that.",
    "4.2.1-9": "Its Sec-WebSocket-Protocol, if any, lists one or more tokens, none of them twice.",
    "4.2.1-10": "Its Sec-WebSocket-Extensions, if any, lists one or more extensions in the form of section 9.1.",
    "4.2.2-1": "An origin that may not connect gets an HTTP error instead of a handshake.",
    "4.2.2-2": "Another version gets an HTTP error that tells which versions are spoken.",
    "4.2.2-3": "A service that is not there gets an HTTP error, such as 404, instead of a handshake.",
    "4.2.2-4": "The subprotocol of the answer is one of those that the client offered.",
    "4.2.2-5": "Where no subprotocol is agreed on, the answer has no Sec-WebSocket-Protocol, not even an empty one.",
    "4.2.2-6": "The extensions of the answer are among those that the client offered.",
    "4.2.2-7": "Who is accepted gets a valid HTTP response with the status 101.",
    "4.2.2-8": "It has Upgrade: websocket.",
    "4.2.2-9": "It has Connection: Upgrade.",
    "4.2.2-10": "Its Sec-WebSocket-Accept is the base64 of the SHA-1 of the key and the fixed GUID.",
    "4.4-1": "The answer to a version that is not spoken lists every version that is.",
    # Frames
    "5.1-1": "A frame that is not masked ends the connection.",
    "5.1-2": "A server masks nothing that it sends.",
    "5.2-1": "Reserved bits of what is sent are 0 where no extension uses them.",
    "5.2-2": "A reserved bit that no extension uses fails the connection.",
    "5.2-3": "An unknown opcode fails the connection.",
    "5.2-4": "The top bit of a length in 8 bytes is 0.",
    "5.2-5": "A length is sent in as few bytes as it needs.",
    "5.2-6": "A length that is received in more bytes than it needs is not accepted.",
    "5.4-1": "Control frames are not fragmented, neither those sent nor those received.",
    "5.4-2": "Fragments are handed on in the order in which they were sent.",
    "5.4-3": "Fragments of one message do not stand between those of another.",
    "5.4-4": "Control frames between the fragments of a message are handled.",
    "5.4-5": "Messages are received in one frame and in many.",
    "5.4-6": "All fragments of a message are of the type of the first.",
    "5.4-7": "Nobody depends on where frames begin and end.",
    "5.5-1": "The payload of a control frame is 125 bytes at most, sent or received.",
    "5.5.1-1": "The body of a Close, if any, begins with a code of section 7.4 in two bytes.",
    "5.5.1-2": "No data frame follows a Close that was sent.",
    "5.5.1-3": "A Close is answered with a Close, unless one was sent before.",
    "5.5.1-4": "When a Close was sent and one received, in whatever order, the server closes TCP at once.",
    "5.5.1-5": "A client's Close is masked too.",
    "5.5.2-1": "A Ping is answered with a Pong, unless a Close was received before.",
    "5.5.3-1": "The answer to a Ping has the same payload.",
    "5.6-1": "A text is valid UTF-8 as a whole; its fragments need not be.",
    "5.8-1": "No extension is used that was not agreed on in the handshake.",
    "6.1-1": "A message is sent only while the connection is open.",
    "6.1-2": "A message is sent in frames.",
    "6.1-3": "The opcode of its first frame tells text from binary.",
    "6.1-4": "Its last frame is marked as final.",
    "6.1-5": "The frames that were made are sent.",
    "6.2-1": "What comes in is read as frames.",
    "6.2-2": "A control frame is handled as such.",
    "6.2-3": "The type of a message is taken from its first frame.",
    "6.2-4": "The data frame behind a whole message begins a new one.",
    "6.2-5": "The server takes the mask off.",
    # The end
    "7.1.2-1": "A closing handshake starts with a Close that has the code and the reason that were asked for.",
    "7.1.7-1": "To fail a connection, the server closes it.",
    "7.1.7-2": "Nothing that comes after the failure is processed, not even a Close.",
    "7.2.2-1": "To abort an opening handshake, the server closes the connection.",
    "7.4.1-1": "1005 stands in no Close.",
    "7.4.1-2": "1006 stands in no Close.",
    "7.4.1-3": "1015 stands in no Close.",
    # Further
    "8.1-1": "What is to be UTF-8 and is not fails the connection, in the handshake as in messages.",
    "9-1": "The server names no extension that the client did not offer.",
    "9.1-1": "A malformed offer of extensions fails the connection.",
    "10.4-1": "Limits on frames and messages hold against whoever goes over them.",
    "10.7-1": "Whatever comes in is validated.",
    "11.3.1-1": "Sec-WebSocket-Key is in a request once.",
    "11.3.2-1": "Sec-WebSocket-Extensions is in a response once at most.",
    "11.3.3-1": "Sec-WebSocket-Accept is in a response once at most.",
    "11.3.4-1": "Sec-WebSocket-Protocol is in a response once at most.",
    "11.3.5-1": "Sec-WebSocket-Version is in a request once.",
}

Tested = TypeVar("Tested", bound=Callable[..., object])


def covers(*numbers: str) -> Callable[[Tested], Tested]:
    """Say which requirements a test is about. Raises `KeyError` for a number that is not listed."""
    for number in numbers:
        REQUIREMENTS[number]

    def mark(test: Tested) -> Tested:
        test.covers = numbers  # type: ignore[attr-defined]  # functions take any attribute
        return test

    return mark
