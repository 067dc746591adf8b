"""A chat whose server never sees a WebSocket. Read it from top to bottom to learn how to write a backend.

WSaaS holds the WebSockets of the clients. It tells this backend what happens in three HTTP requests:

    POST     a client connects          answer {"code": "OK"}, or any other code to refuse it
    PUT      a client sent a message    the request's body is the message
    DELETE   a client is gone           however it ended

The answer to a POST may also name groups that the client joins, such as {"code": "OK", "groups": ["lobby"]}. To send,
this backend makes a request itself, to the gateway that made the POST:

    PUT /groups/lobby                   the request's body is sent to each member as one message
    GET /groups/lobby                   who the members are
    PUT ws_uri                          to send to one client, whose `ws_uri` was in the POST

That is all. The rest of this file is a chat: a client of /rooms/NAME?nick=ada talks to everybody in that room, and a
client of /echo gets its own messages back. The gateway keeps the members of the rooms, so this backend has no records
of its own, and can be restarted at any time. It needs nothing but Python:

    python chat.py                                        # the backend
    API_URI=localhost:8000/websocket wsaas                # the gateway, in a second terminal
    websocat 'ws://localhost:8080/rooms/lobby?nick=ada'   # a client, in a third
"""

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

MAX_NICK_LENGTH: Final = 32
# A room is a group of the gateway, so its name has characters that are allowed there.
ROOM: Final = re.compile(r"[\w.~@-]{1,32}", re.ASCII)
ECHO: Final = "echo"


class Answer(NamedTuple):
    """The response to an HTTP request from the gateway, or to the gateway."""

    status: int
    body: bytes
    ws_reply: str | None = None  # "text" or "binary": the gateway sends the body on to the client
    then: Callable[[], None] | None = None  # called once the response was sent


def answer(code: str, status: int = 200, then: Callable[[], None] | None = None, **more: object) -> Answer:
    """Return the JSON response that the gateway expects."""
    return Answer(status, json.dumps({"code": code, **more}).encode(), then=then)


def call(method: str, url: str, body: bytes = b"") -> Answer:
    """Send one request to the gateway.

    A new connection for each is the simplest way. A busy backend keeps connections open, as most HTTP clients do.
    """
    address = urlsplit(url)
    connect = HTTPSConnection if address.scheme == "https" else HTTPConnection
    with closing(connect(address.netloc, timeout=5)) as connection:
        # Text and JSON types arrive as a text message, any other type as a binary one.
        path = address._replace(scheme="", netloc="").geturl()
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return Answer(response.status, response.read())


def full_url(uri: str) -> str:
    """Return a `ws_uri` as a URL. It starts with WS_HOSTNAME, which may have no scheme. It is then plain HTTP."""
    return uri if "://" in uri else f"http://{uri}"


def group_url(ws_uri: str, group: str) -> str:
    """Return the URL of a group. The gateway is where the `ws_uri` of a client leads."""
    return f"{full_url(ws_uri.rpartition('/')[0])}/groups/{group}"


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
    """The responses to the gateway, and the messages to the clients."""

    def __init__(self, call: Callable[[str, str, bytes], Answer] = call) -> None:
        """Send requests to the gateway by `call`."""
        self.call = call
        self.seen: deque[str] = deque(maxlen=1000)  # ids of the latest events
        # The gateway sends the events of one client one after the other, but the events of many clients at the same
        # time. A large chat would have a lock for each room.
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
                    return self.disconnect(headers)
        except (OSError, HTTPException):
            # The gateway does not respond. This answer makes it send the event again.
            return answer("UNAVAILABLE", HTTPStatus.SERVICE_UNAVAILABLE)
        except (KeyError, TypeError, ValueError):
            return answer("BAD_REQUEST", HTTPStatus.BAD_REQUEST)

    def connect(self, event: dict[str, Any]) -> Answer:
        """Accept or refuse a client. Its WebSocket opens only after this response."""
        # Here a backend would authenticate the client: the gateway forwards its Authorization header, and all headers
        # are in event["request"]["headers"].
        match unquote(event["request"]["path"]).split("/"):
            case ["", "echo"]:
                # `wsaas check` has this header. It wants to know whether a push reaches the gateway.
                is_check = "wsaas-check" in event["request"].get("headers", ())
                push = partial(self.push, str(event["ws_uri"]), b"hello") if is_check else None
                return answer("OK", then=push, context=ECHO)
            case ["", "rooms", room] if ROOM.fullmatch(room):
                nick = parse_qs(event["request"]["query"]).get("nick", ["guest"])[0]
                member = Member(room, nick[:MAX_NICK_LENGTH])
            case _:
                # Any code but "OK" refuses the client. It gets a 403, and no DELETE follows.
                return answer("NO_SUCH_ROOM")
        # The client joins its groups when the gateway reads this response, so the announcement follows it. The gateway
        # returns the context in the Ws-Context header of every later request about this client.
        announcement = partial(self.announce, "joined", member, str(event["ws_uri"]))
        return answer("OK", context=member.context(), groups=[room], then=announcement)

    def message(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send the message of a client to its room."""
        if headers["ws-context"] == ECHO:
            # A reply to the sender needs no request: it can be the response to this one.
            is_text = headers.get("content-type", "text/plain").startswith("text/")
            return Answer(HTTPStatus.OK, body, ws_reply="text" if is_text else "binary")
        # The context contains the sender and the room, so any process of a backend can handle this request.
        member = Member.from_context(headers["ws-context"])
        text = body.decode()
        event_id = headers["ce-id"]
        with self.lock:
            # The gateway repeats a request whose response was lost, with the same ce-id.
            if event_id in self.seen:
                return answer("REPEAT")
            # One request, however many members the room has. A member that reads too slowly is named in the answer
            # (`slow`), and misses the message. If every message has to arrive, add ?slow=close to the URL: such a
            # client is closed, connects again, and asks for the messages that it missed.
            status = self.publish(headers["ws-uri"], member.room, type="message", text=text, **{"from": member.nick})
            if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                # The text fits into a message, but not with the name of its sender. To repeat it would not help.
                return answer("TOO_LARGE", status)
            if status != HTTPStatus.OK:
                return answer("UNAVAILABLE", HTTPStatus.SERVICE_UNAVAILABLE)
            self.seen.append(event_id)
        # The gateway waits for this response before it sends the client's next message. So messages stay in order.
        return answer("OK")

    def disconnect(self, headers: Mapping[str, str]) -> Answer:
        """Announce that a client is gone. It has left its groups already."""
        # There is no context if the answer to the POST was lost: the gateway does not know what it was.
        context = headers.get("ws-context", ECHO)
        if context == ECHO:
            return answer("OK")
        member = Member.from_context(context)
        return answer("OK", then=partial(self.announce, "left", member, headers["ws-uri"]))

    def announce(self, what: str, who: Member, ws_uri: str) -> None:
        """Send the members of the room who joined or left, and who is there now.

        If the gateway does not respond, the announcement is lost. The next one has the complete list again.
        """
        # With the lock, the latest list is also the last to arrive.
        with suppress(OSError, HTTPException, LookupError, ValueError), self.lock:
            self.publish(
                ws_uri, who.room, type=what, nick=who.nick, room=who.room, members=self.nicks(ws_uri, who.room)
            )

    def nicks(self, ws_uri: str, room: str) -> list[str]:
        """Return who is in a room. The gateway knows: it lists each client with its context."""
        # It lists at most 1000 clients, and the "next" of the answer leads to those that follow. A chat with rooms as
        # large as that would not list them whenever a client comes or goes.
        listed = self.call("GET", f"{group_url(ws_uri, room)}?limit=1000", b"")
        return [Member.from_context(client["context"]).nick for client in json.loads(listed.body)["connections"]]

    def push(self, ws_uri: str, message: bytes) -> None:
        """Send a message to one client."""
        with suppress(OSError, HTTPException):
            self.call("PUT", full_url(ws_uri), message)

    def publish(self, ws_uri: str, group: str, **message: object) -> int:
        """Send a message to all members of a group, with one request; return the status of the answer."""
        return self.call("PUT", group_url(ws_uri, group), json.dumps(message).encode()).status


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
        self.wfile.flush()
        if answer.then:
            answer.then()

    def log_message(self, *_: object) -> None:
        """Log nothing: the gateway logs already."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8000), Webhook).serve_forever()
