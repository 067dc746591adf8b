"""PUTs: messages of each kind, a repeated one, and the connections that they take."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from wsaas.check.context import Context
from wsaas.check.observed import Observed, joined
from wsaas.delivery.verdicts import Delivered, Undeliverable
from wsaas.events import Message
from wsaas.log.wording import counted

JSON_MESSAGE: Final = b'{"type": "wsaas-check"}'
BINARY_MESSAGE: Final = b"\x00\xff\xfe wsaas check \x80"
LARGE: Final = 1 << 20
"""Bytes of the largest message that is tried, unless MAX_MESSAGE_SIZE is less."""

TOO_LARGE: Final = 413
UNSUPPORTED_MEDIA_TYPE: Final = 415
_RAW_BODY: Final = (
    "read the raw body, or set TEXT_CONTENT_TYPE to what the backend parses: text messages are text/plain by default, "
    "also those that contain JSON"
)
_EMPTY_BODY: Final = "a client may send an empty message: accept a body of 0 bytes"
_REFUSAL: Final = "acknowledge with 2xx what the client may send"


async def check_messages(context: Context) -> None:
    """Send a message of each kind."""
    text = await context.deliver(Message(text=True, data=context.options.message.encode()))
    if context.options.is_quick:
        _report(context, "PUT text", text, is_broken=True)
        return
    # How bad a refusal is depends on the next message. Anything else is reported at once: if it was the end of the
    # backend, no message follows.
    is_refused = isinstance(text.verdict, Undeliverable)
    if not is_refused:
        _report(context, "PUT text", text)
    json = await context.deliver(Message(text=True, data=JSON_MESSAGE))
    takes_no_text = not (text.is_delivered or json.is_delivered)
    if is_refused:
        _report(context, "PUT text", text, is_broken=takes_no_text)
    _report(context, "PUT JSON", json, is_broken=takes_no_text)
    _report(context, "PUT binary", await context.deliver(Message(text=False, data=BINARY_MESSAGE)))
    _report(context, "PUT empty", await context.deliver(Message(text=True, data=b"")), advice=_EMPTY_BODY)
    context.samples += [each.seconds for each in context.messages if each.is_delivered]
    await _check_large(context)
    _report_replies(context)


async def check_repeat(context: Context) -> None:
    """Send a message twice with the same `ce-id`, as after an answer that was lost."""
    client = await context.client()
    message = Message(text=True, data=context.options.message.encode())
    observed = await context.deliver(message)
    if not observed.is_delivered or not client.is_open:
        return
    again = await context.gateway.send(client.session.info, message)
    if again.is_delivered:
        context.report.ok("PUT repeated", f"the same ce-id is acknowledged again with {again.status}")
    else:
        context.report.fail(
            "PUT repeated",
            f"{again.what()} to a ce-id that it had acknowledged",
            "acknowledge a repeated ce-id with 2xx",
        )


def check_keep_alive(context: Context) -> None:
    """Report whether the messages went over one connection."""
    answered = [each for each in context.messages if each.is_delivered]
    if not answered:
        return
    closing = sum(not each.keeps_alive for each in answered)
    lost = sum(each.opened > 0 and before.keeps_alive for before, each in pairwise(answered))
    if closing:
        context.report.warn(
            "keep-alive",
            f"the backend closed the connection after {closing} of {counted(len(answered), 'answer')}",
            "answer in HTTP/1.1 with Content-Length and without Connection: close; the servers that come with "
            "frameworks for development often cannot",
        )
    elif lost:
        context.report.warn(
            "keep-alive",
            f"the backend closed {counted(lost, 'idle connection')} at once, and its answers had not announced it",
            "raise its keep-alive time-out above KEEP_ALIVE_TIMEOUT",
        )
    else:
        context.report.ok("keep-alive", f"{counted(len(answered), 'request')} used the same connection")


async def _check_large(context: Context) -> None:
    size = min(LARGE, context.settings.max_message_size)
    name = "PUT 1 MiB" if size == LARGE else f"PUT {size} bytes"
    observed = await context.deliver(Message(text=True, data=b"x" * size))
    if observed.status == TOO_LARGE:
        mend = "set MAX_MESSAGE_SIZE to what the backend takes, so that clients learn it at once, or raise its limit"
        context.report.warn(name, f"{observed.what()}: the client would be closed with 1009", mend)
    else:
        _report(context, name, observed)


def _report(context: Context, check: str, observed: Observed, *, is_broken: bool = False, advice: str = "") -> None:
    """Report a PUT. `is_broken`: a refusal breaks the contract, instead of being a choice of the backend."""
    verdict, report = observed.verdict, context.report
    if isinstance(verdict, Delivered):
        report.ok(check, f"acknowledged with {observed.status} in {observed.took}{_replied(verdict)}")
    elif isinstance(verdict, Undeliverable) and observed.is_success:
        # The backend acknowledged the message, but asks for something that cannot be done.
        report.fail(
            check, f"{observed.what()}: the client would be closed with 1011", "correct this header of the answer"
        )
    elif isinstance(verdict, Undeliverable):
        if is_broken and observed.status != UNSUPPORTED_MEDIA_TYPE:
            advice = _RAW_BODY
        mend = joined(observed.mend(), advice) or _REFUSAL
        add = report.fail if is_broken else report.warn
        add(check, f"{observed.what()}: the client would be closed with {verdict.reason.code}", mend)
    else:
        report.fail(check, f"{observed.what()}: the message would be sent again for API_RETRY", observed.mend())


def _replied(delivered: Delivered) -> str:
    reply = delivered.actions and delivered.actions.reply
    if not reply:
        return ""
    return f", with a reply of {counted(len(reply.data), 'byte')} as {'text' if reply.text else 'binary'}"


def _report_replies(context: Context) -> None:
    replies = _count_replies(context.messages)
    text = (
        f"{replies} of {counted(len(context.messages), 'message')} got a reply" if replies else "no message got a reply"
    )
    context.report.ok("Ws-Reply", f"{text}; a reply is optional")


def _count_replies(messages: Sequence[Observed]) -> int:
    return sum(
        isinstance(each.verdict, Delivered)
        and each.verdict.actions is not None
        and each.verdict.actions.reply is not None
        for each in messages
    )
