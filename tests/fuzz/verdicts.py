"""Target: the verdict on a response of the backend, its effect on the client, and on later requests."""

from math import isfinite

from tests.fuzz.handshakes import AT, ID, PLAIN, check_answer, check_request
from tests.fuzz.reference import is_text, sent
from tests.fuzz.responses import read
from tests.support.fakes import make_closed
from wsaas.delivery.connect_answer import judge_opened
from wsaas.delivery.message_answer import valid_context
from wsaas.delivery.verdicts import Accepted, Actions, Delivered, Rejected, Retry, Undeliverable
from wsaas.delivery.webhook import Subject
from wsaas.events import Message
from wsaas.grammar import is_group_name
from wsaas.http.response import Response
from wsaas.http.serialize import error_response, serialize
from wsaas.websocket import frames
from wsaas.websocket.handshake import select_subprotocol

OFFERED = ["chat", "v2"]
MESSAGE, CLOSED = Message(True, b"hi", AT, 1), make_closed(b"{}", AT)
UNCODED = {b"", b"identity"}
PASSED_ON = [b"www-authenticate", b"retry-after"]


def answered(data: bytes) -> bytes:
    """Return a response made of `data`: all of it, its body, a header line, or a Retry-After."""
    kind, given = data[0] % 4, data[1:]
    if kind == 0:
        return given
    if kind == 1:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(given) + given
    if kind == 2:
        return b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n" + given + b"\r\n\r\n"
    return b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: " + given + b"\r\n\r\n"


def check_opened(response: Response) -> None:
    """Check that a client is accepted or gets one response, and that the context becomes at most one header."""
    verdict = judge_opened(response)
    if isinstance(verdict, Rejected):
        assert 400 <= verdict.error.status <= 504
        is_passed_on = response.status in {401, 403, 404, 429, 503}
        passed_on = [name for name in PASSED_ON if name in response.headers and is_passed_on]
        names = [b"date", b"content-length", b"content-type", b"connection", *passed_on]
        check_answer(serialize(error_response(verdict.error), 0.0), verdict.error.status, names)
        return
    assert isinstance(verdict, Accepted)
    assert response.status // 100 == 2
    try:
        assert select_subprotocol(verdict.subprotocol, OFFERED, []) in {None, *OFFERED}
    except ValueError:
        assert verdict.subprotocol not in OFFERED
    own = {}
    subject = Subject(ID, "localhost:8080", None)
    if verdict.context is not None:
        subject.context = verdict.context
        own[b"ws-context"] = verdict.context.encode()
    check_request(PLAIN, subject, MESSAGE, own)


def check_actions(actions: Actions, response: Response) -> None:
    """Groups, context and close are those that the gateway accepts elsewhere; a reply is one that can be sent."""
    assert all(map(is_group_name, [*actions.join, *actions.leave]))
    assert actions.context is None or valid_context(actions.context)
    if actions.close is not None:
        assert sent(frames.encode_close(actions.close.code, actions.close.reason))[0] == frames.CLOSE
    if actions.reply is not None:
        reply = actions.reply
        opcode = frames.TEXT if reply.text else frames.BINARY
        assert {each.strip() for each in response.headers.get(b"content-encoding", b"").lower().split(b",")} <= UNCODED
        assert not reply.text or is_text(reply.data, final=True)
        assert sent(frames.encode(opcode, reply.data)) == (opcode, response.body)


def check_message(response: Response) -> None:
    """Check that a message is delivered, undeliverable or retried, and that a reply can be sent."""
    verdict = PLAIN.judge(MESSAGE, response)
    if isinstance(verdict, Delivered):
        assert response.status // 100 == 2
        if verdict.actions is not None:
            check_actions(verdict.actions, response)
    elif isinstance(verdict, Retry):
        assert isfinite(verdict.after)
        assert verdict.after >= 0
    else:
        assert isinstance(verdict, Undeliverable)
        assert verdict.why


def verdicts(data: bytes) -> None:
    """Any response has a verdict, and never becomes another header, response or request."""
    if not data:
        return
    response = read(iter([answered(data)]), 5000).response
    if response is None:
        return
    check_opened(response)
    check_message(response)
    verdict = PLAIN.judge(CLOSED, response)
    assert isinstance(verdict, Delivered | Retry)
    if isinstance(verdict, Retry):
        assert isfinite(verdict.after)
        assert verdict.after >= 0
