"""A chat whose server never sees a WebSocket. Read it from top to bottom to learn how to write a backend.

WSaaS holds the clients' WebSockets. What happens to them it tells this backend in three HTTP requests:

    POST     a client wants in          answer {"code": "OK"}, or any other code to refuse it
    PUT      a client sent a message    the request's body is the message
    DELETE   a client is gone           however it ended

and to speak to a client, this backend makes a request itself, to the `ws_uri` that the POST named:

    PUT ws_uri                          the request's body is sent to the client as one message

That is all there is to learn. The rest below is a chat: who connects to /rooms/NAME?nick=ada talks to
everybody in that room, and who connects to /echo gets back what it sends. It needs Python and nothing else:

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

LONGEST_NAME = 32
ECHO = "echo"


class Answer(NamedTuple):
    """The answer to an HTTP request: ours to the gateway, or the gateway's to us."""

    status: int
    body: bytes
    ws_reply: str | None = None  # "text" or "binary": the gateway sends the body on to the client


def answer(code: str, status: int = 200, **more: object) -> Answer:
    """Makes the JSON answer that the gateway expects."""
    return Answer(status, json.dumps({"code": code, **more}).encode())


def push(ws_uri: str, text: bytes) -> Answer:
    """Sends one text message to one client: the only request a backend ever has to make.

    A connection for each push is the simplest that works. A busy backend keeps them open, which the HTTP
    client of your choice does for you.
    """
    # WS_HOSTNAME decides what a ws_uri looks like. Without a scheme it is plain HTTP.
    url = urlsplit(ws_uri if "://" in ws_uri else f"http://{ws_uri}")
    connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
    with closing(connect(url.netloc, timeout=5)) as connection:
        # Text and JSON types arrive as a text message, any other type as a binary one.
        connection.request("PUT", url.path, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, response.read())


class Member(NamedTuple):
    """Somebody in a room."""

    room: str
    nick: str

    def context(self) -> str:
        """What the gateway shall remember of this client: percent-encoded, as it must be visible ASCII."""
        return urlencode(self._asdict())

    @classmethod
    def from_context(cls, context: str) -> "Member":
        """Reads what `context` wrote."""
        fields = parse_qs(context)
        return cls(fields["room"][0], fields["nick"][0])


class Chat:
    """Who is in which room, and what to answer when the gateway tells of them."""

    def __init__(self, push: Callable[[str, bytes], Answer] = push) -> None:
        """Starts with nobody in; `push` reaches a client."""
        self.push = push
        self.members: dict[str, Member] = {}  # by ws_uri: the address of a client is all one needs to keep
        self.seen: deque[str] = deque(maxlen=1000)  # events dealt with
        # The gateway tells of one client's events one after the other, but of many clients at once. Whoever
        # changes something holds this lock until everybody was told: all see the same, in the same order. A
        # large chat would have a lock for each room.
        self.lock = threading.Lock()

    def handle(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answers one request of the gateway; the header names are in lower case."""
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
        """Lets a client in, or not: its WebSocket is opened only after this answer."""
        # Here a backend would check who this is: the gateway passes on the client's Authorization header, and
        # all its other headers in event["request"]["headers"].
        match unquote(event["request"]["path"]).split("/"):
            case ["", "echo"]:
                return answer("OK", context=ECHO)
            case ["", "rooms", room] if 0 < len(room) <= LONGEST_NAME:
                nick = parse_qs(event["request"]["query"]).get("nick", ["guest"])[0]
                member = Member(room, nick[:LONGEST_NAME])
            case _:
                # Any code but "OK" refuses the client. It sees 403, and no DELETE will follow.
                return answer("NO_SUCH_ROOM")
        with self.lock:
            # This pushes to the newcomer too, before it is let in: the gateway keeps that for it.
            self.join(str(event["ws_uri"]), member)
        # The gateway returns the context in the Ws-Context header of every later request about this client.
        return answer("OK", context=member.context())

    def message(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Passes a client's message on to its room."""
        if headers["ws-context"] == ECHO:
            # To answer the sender only, there is no need to push: the answer to this request can carry it.
            is_text = headers.get("content-type", "text/plain").startswith("text/")
            return Answer(HTTPStatus.OK, body, ws_reply="text" if is_text else "binary")
        # Who speaks, and where, is in the context: nothing to look up, whichever process this arrives in.
        member = Member.from_context(headers["ws-context"])
        text = body.decode()
        event_id = headers.get("ce-id") or token_hex()
        with self.lock:
            # The gateway repeats a request whose answer got lost. Its ce-id stays the same: say it only once.
            if event_id in self.seen:
                return answer("REPEAT")
            self.seen.append(event_id)
            # After a restart of this process the clients are still there, but unknown here: take them back.
            self.join(headers["ws-uri"], member)
            self.tell(self.present(member.room), type="message", text=text, **{"from": member.nick})
        # Answering only now, when everybody was told, keeps one client's messages in order: the gateway sends
        # the next one when this one was answered.
        return answer("OK")

    def disconnect(self, ws_uri: str) -> Answer:
        """Forgets a client. It may be unknown already, or come twice, and both are fine."""
        with self.lock:
            member = self.members.pop(ws_uri, None)
            if member:
                self.announce("left", member)
        return answer("OK")

    def join(self, ws_uri: str, member: Member) -> None:
        """Adds a member, unless it is there already: a repeated request is not announced again."""
        if ws_uri not in self.members:
            self.members[ws_uri] = member
            self.announce("joined", member)

    def announce(self, what: str, who: Member) -> None:
        """Tells the room who joined or left, and everybody elsewhere how many are where now."""
        rooms = Counter(member.room for member in self.members.values())
        here = self.present(who.room)
        nicks = [self.members[ws_uri].nick for ws_uri in here]
        self.tell(here, type=what, nick=who.nick, room=who.room, members=nicks, rooms=rooms)
        self.tell([ws_uri for ws_uri in self.members if ws_uri not in here], type="rooms", rooms=rooms)

    def present(self, room: str) -> list[str]:
        """Lists who is in a room, by ws_uri."""
        return [ws_uri for ws_uri, member in self.members.items() if member.room == room]

    def tell(self, ws_uris: list[str], **message: object) -> None:
        """Sends a message to some members, and drops those that turn out to be gone."""
        text = json.dumps(message).encode()
        dropped = [self.members.pop(ws_uri) for ws_uri in ws_uris if self.is_gone(ws_uri, text)]
        for member in dropped:
            self.announce("left", member)

    def is_gone(self, ws_uri: str, text: bytes) -> bool:
        """Pushes to one client; true when it turns out that there is no such client any more."""
        try:
            # 410 is for ever: a ws_uri is never used again. 429 is a client too slow to take more now: it
            # may miss a line of a chat. Where every message must arrive, DELETE its ws_uri instead: it will
            # connect again and ask for what it missed.
            return self.push(ws_uri, text).status == HTTPStatus.GONE
        except (InvalidURL, ValueError):
            return True  # no address at all: somebody made this connect up, by hand perhaps
        except (OSError, HTTPException):
            return False  # the gateway does not answer just now: not a reason to give up its clients


class Webhook(BaseHTTPRequestHandler):
    """The HTTP around the chat, which a web framework would do for you."""

    protocol_version = "HTTP/1.1"  # keeps the gateway's connections open: it need not make one for each event
    wbufsize = -1  # send the head and the body of an answer in one piece
    chat = Chat()

    def do_POST(self) -> None:
        """Answers one request of the gateway."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply(self.decide({name.lower(): value for name, value in self.headers.items()}, body))

    do_PUT = do_DELETE = do_POST  # noqa: N815 - http.server wants these names

    def decide(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Asks the chat what to answer."""
        return self.chat.handle(self.command, headers, body)

    def reply(self, answer: Answer) -> None:
        """Writes an answer."""
        self.send_response(answer.status)
        if answer.ws_reply:
            self.send_header("Ws-Reply", answer.ws_reply)
        self.send_header("Content-Type", "text/plain" if answer.ws_reply else "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Stays quiet: the gateway logs already."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8000), Webhook).serve_forever()
