"""Requests with a wrong signature: the backend has to refuse them, as anybody could send them."""

import os
from dataclasses import replace
from typing import Final

from wsaas.check.context import Context
from wsaas.check.disconnects import unknown_client
from wsaas.delivery.verdicts import Accepted
from wsaas.delivery.webhook import Webhook
from wsaas.events import Event, Message, Opened

OLD_S: Final = 3600.0
"""Age of a signature, in seconds, that no verifier should accept. Standard Webhooks suggests a few minutes."""

SECRET_SIZE: Final = 32

_VERIFY: Final = "verify webhook-signature before anything else, over the raw body, and answer 401 if it is wrong"
_REPLAY: Final = "refuse a webhook-timestamp that is more than some minutes old, so that nobody can replay a request"


async def check_signatures(context: Context) -> None:
    """Send each request with a wrong signature, a POST without one, and a POST with an old one."""
    settings, report = context.settings, context.report
    if not settings.api_secret:
        return
    forged = _signing(context, (os.urandom(SECRET_SIZE),))
    client = await context.client()
    message = Message(
        text=True, data=b"forged", at=context.gateway.clock.wall(), number=client.session.info.messages_in + 1
    )
    taken = {
        "POST": await _is_post_taken(context, forged),
        "PUT": (await context.gateway.send(client.session.info, message, forged)).is_success,
        "DELETE": (await context.gateway.send(*unknown_client(context), forged)).is_success,
    }
    await context.disconnect()
    if any(taken.values()):
        methods = ", ".join(method for method, is_taken in taken.items() if is_taken)
        report.fail("signature", f"the backend takes requests with a wrong signature ({methods})", _VERIFY)
    elif await _is_post_taken(context, _signing(context, ())):
        report.fail("signature", "the backend takes requests without a signature", _VERIFY)
    elif await _is_post_taken(context, _signing(context, settings.api_secret, age=OLD_S)):
        report.warn("signature", f"the backend takes a request that was signed {OLD_S:g} s ago", _REPLAY)
    else:
        report.ok("signature", "requests with a wrong, missing or old signature are refused")


def _signing(context: Context, secrets: tuple[bytes, ...], age: float = 0.0) -> Webhook:
    """Return a webhook that signs with `secrets`, at a time that is `age` seconds ago."""
    gateway = context.gateway
    return Webhook(
        replace(context.settings, api_secret=secrets),
        gateway.pool,
        gateway.webhook.breaker,
        lambda: gateway.clock.wall() - age,
    )


async def _is_post_taken(context: Context, webhook: Webhook) -> bool:
    """Return whether the backend accepts a client by a request of `webhook`. It gets the DELETE then."""
    gateway = context.gateway
    subject, closed = unknown_client(context)
    handshake = context.handshake(context.settings.subprotocols)
    subject.authorization = handshake.authorization
    opened: Event = Opened(
        gateway.clock.wall(),
        subject.id,
        subject.ws_uri,
        round(context.settings.ws_timeout * 1000),
        "127.0.0.1",
        handshake.path,
        handshake.query,
        handshake.headers,
        handshake.subprotocols,
    )
    verdict = (await gateway.send(subject, opened, webhook)).verdict
    if not isinstance(verdict, Accepted):
        return False
    subject.context = verdict.context
    await gateway.send(subject, closed)
    return True
