"""A chat whose server never sees a WebSocket. Read it from top to bottom to learn how to write a backend.

WSaaS holds the WebSockets of the clients. It tells this backend what happens in three HTTP requests:

    POST     a client wants in          answer {"code": "OK"}, or any other code to refuse it
    PUT      a client sent a message    the request's body is the message
    DELETE   a client is gone           however it ended

and to send to a client, this backend makes a request itself, to the `ws_uri` that was in the POST:

    PUT ws_uri                          the request's body is sent to the client as one message

That is all. The rest of this file is a chat: a client of /rooms/NAME?nick=ada talks to everybody in that room, and a
client of /echo gets its own messages back. It needs nothing but Python:

    python chat.py                                        # the backend
    API_URI=localhost:8000/websocket wsaas                # the gateway, in a second terminal
    websocat 'ws://localhost:8080/rooms/lobby?nick=ada'   # a client, in a third
"""

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection, InvalidURL
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_hex
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

MAX_NAME_LENGTH = 32
ECHO = "echo"


class Answer(NamedTuple):
    """The response to an HTTP request from the gateway, or to the gateway."""

    status: int
    body: bytes
    ws_reply: str | None = None  # "text" or "binary": the gateway sends the body on to the client


def answer(code: str, status: int = 200, **more: object) -> Answer:
    """Return the JSON response that the gateway expects."""
    return Answer(status, json.dumps({"code": code, **more}).encode())


def push(ws_uri: str, text: bytes) -> Answer:
    """Send one text message to one client. This is the only request that a backend has to make.

    A new connection for each push is the simplest way. A busy backend keeps connections open, as most HTTP clients do.
    """
    # A ws_uri starts with WS_HOSTNAME, which may have no scheme. It is then plain HTTP.
    url = urlsplit(ws_uri if "://" in ws_uri else f"http://{ws_uri}")
    connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
    with closing(connect(url.netloc, timeout=5)) as connection:
        # Text and JSON types arrive as a text message, any other type as a binary one.
        connection.request("PUT", url.path, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, response.read())


class Member(NamedTuple):
    """A client in a room."""

    room: str
    nick: str

    def context(self) -> str:
        """Return what the gateway stores for this client, percent-encoded: it has to be visible ASCII."""
        return urlencode(self._asdict())

    @classmethod
    def from_context(cls, context: str) -> "Member":
        """Parse what `context` returned."""
        fields = parse_qs(context)
        return cls(fields["room"][0], fields["nick"][0])


class Chat:
    """The members of the rooms, and the responses to the gateway."""

    def __init__(self, push: Callable[[str, bytes], Answer] = push) -> None:
        """Start with empty rooms. `push` sends to a client."""
        self.push = push
        self.members: dict[str, Member] = {}  # by ws_uri, which is all that is needed to reach a client
        self.seen: deque[str] = deque(maxlen=1000)  # ids of the latest events
        # The gateway sends the events of one client one after the other, but the events of many clients at the same
        # time. Every change holds this lock until it was sent to all members, so that all see the same order. A large
        # chat would have a lock for each room.
        self.lock = threading.Lock()

    def handle(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Handle one request of the gateway. The names of `headers` are in lower case."""
        try:
            match method:
                case "POST":
                    return self.connect(json.loads(body))
                case "PUT":
                    return self.message(headers, body)
                case _:
                    return self.disconnect(headers["ws-uri"])
        except (KeyError, TypeError, ValueError):
            return answer("BAD_REQUEST", HTTPStatus.BAD_REQUEST)

    def connect(self, event: dict[str, Any]) -> Answer:
        """Accept or refuse a client. Its WebSocket opens only after this response."""
        # Here a backend would authenticate the client: the gateway forwards its Authorization header, and all headers
        # are in event["request"]["headers"].
        match unquote(event["request"]["path"]).split("/"):
            case ["", "echo"]:
                return answer("OK", context=ECHO)
            case ["", "rooms", room] if 0 < len(room) <= MAX_NAME_LENGTH:
                nick = parse_qs(event["request"]["query"]).get("nick", ["guest"])[0]
                member = Member(room, nick[:MAX_NAME_LENGTH])
            case _:
                # Any code but "OK" refuses the client. It gets a 403, and no DELETE follows.
                return answer("NO_SUCH_ROOM")
        with self.lock:
            # This also pushes to the new client, which is not accepted yet: the gateway delivers the message later.
            self.join(str(event["ws_uri"]), member)
        # The gateway returns the context in the Ws-Context header of every later request about this client.
        return answer("OK", context=member.context())

    def message(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send the message of a client to its room."""
        if headers["ws-context"] == ECHO:
            # A reply to the sender needs no push: it can be the response to this request.
            is_text = headers.get("content-type", "text/plain").startswith("text/")
            return Answer(HTTPStatus.OK, body, ws_reply="text" if is_text else "binary")
        # The context contains the sender and the room, so any process of a backend can handle this request.
        member = Member.from_context(headers["ws-context"])
        text = body.decode()
        event_id = headers.get("ce-id") or token_hex()
        with self.lock:
            # The gateway repeats a request whose response was lost, with the same ce-id.
            if event_id in self.seen:
                return answer("REPEAT")
            self.seen.append(event_id)
            # After a restart of this process, the clients are still connected but unknown here.
            self.join(headers["ws-uri"], member)
            self.tell(self.present(member.room), type="message", text=text, **{"from": member.nick})
        # The gateway waits for this response before it sends the client's next message. So messages stay in order.
        return answer("OK")

    def disconnect(self, ws_uri: str) -> Answer:
        """Remove a client. The request may come twice, or for an unknown client."""
        with self.lock:
            member = self.members.pop(ws_uri, None)
            if member:
                self.announce("left", member)
        return answer("OK")

    def join(self, ws_uri: str, member: Member) -> None:
        """Add a member and announce it, unless it is in the room already."""
        if ws_uri not in self.members:
            self.members[ws_uri] = member
            self.announce("joined", member)

    def announce(self, what: str, who: Member) -> None:
        """Tell the room who joined or left, and all other clients how many members each room has."""
        rooms = Counter(member.room for member in self.members.values())
        here = self.present(who.room)
        nicks = [self.members[ws_uri].nick for ws_uri in here]
        self.tell(here, type=what, nick=who.nick, room=who.room, members=nicks, rooms=rooms)
        self.tell([ws_uri for ws_uri in self.members if ws_uri not in here], type="rooms", rooms=rooms)

    def present(self, room: str) -> list[str]:
        """Return the ws_uris of the members of a room."""
        return [ws_uri for ws_uri, member in self.members.items() if member.room == room]

    def tell(self, ws_uris: list[str], **message: object) -> None:
        """Send a message to some members, and remove those that are gone."""
        text = json.dumps(message).encode()
        dropped = [self.members.pop(ws_uri) for ws_uri in ws_uris if self.is_gone(ws_uri, text)]
        for member in dropped:
            self.announce("left", member)

    def is_gone(self, ws_uri: str, text: bytes) -> bool:
        """Push to one client; return whether it is gone."""
        try:
            # 410 is final: a ws_uri is never used again. 429 means that the client reads too slowly, so it misses this
            # message. If every message has to arrive, DELETE the ws_uri instead: the client then connects again and
            # asks for the messages that it missed.
            return self.push(ws_uri, text).status == HTTPStatus.GONE
        except (InvalidURL, ValueError):
            return True  # not a valid address: the POST did not come from a gateway
        except (OSError, HTTPException):
            return False  # the gateway does not respond, but its clients may still be connected


class Webhook(BaseHTTPRequestHandler):
    """The HTTP server of the chat. A web framework would do this for you."""

    protocol_version = "HTTP/1.1"  # keeps the connections of the gateway open
    wbufsize = -1  # sends the head and the body of a response together
    chat = Chat()

    def do_POST(self) -> None:
        """Serve one request of the gateway."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply(self.decide({name.lower(): value for name, value in self.headers.items()}, body))

    do_PUT = do_DELETE = do_POST  # noqa: N815 - http.server wants these names

    def decide(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Let the chat handle the request."""
        return self.chat.handle(self.command, headers, body)

    def reply(self, answer: Answer) -> None:
        """Send a response."""
        self.send_response(answer.status)
        if answer.ws_reply:
            self.send_header("Ws-Reply", answer.ws_reply)
        self.send_header("Content-Type", "text/plain" if answer.ws_reply else "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Log nothing: the gateway logs already."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8000), Webhook).serve_forever()
