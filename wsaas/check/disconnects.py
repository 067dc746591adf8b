"""DELETEs: of a client, and of one that the backend does not know."""

from secrets import token_urlsafe
from typing import Final

from wsaas.check.context import Context, Stop
from wsaas.check.observed import Observed, joined
from wsaas.delivery.webhook import Subject
from wsaas.events import Closed, Disconnect
from wsaas.sessions.registry import RANDOM_LENGTH
from wsaas.settings import DELETE_RETRY_FACTOR

_UNKNOWN_ADVICE: Final = (
    "acknowledge it with 2xx, 404 or 410: after a POST without an answer, the gateway sends a DELETE without Ws-Context"
)
_DROPPED: Final = "if the body is missing there, a proxy or framework drops it: Ws-Uri and ce-subject say who left, too"


async def check_disconnect(context: Context) -> None:
    """Close the client; then send a DELETE about a client that the backend does not know on the same connection."""
    observed = await context.disconnect()
    if observed.is_delivered:
        context.report.ok("DELETE", f"acknowledged with {observed.status} in {observed.took}")
    else:
        _fail(context, "DELETE", observed, joined(observed.mend(), _DROPPED if observed.status else ""))
    await _check_unknown(context, after=observed)


async def _check_unknown(context: Context, after: Observed) -> None:
    gateway, report = context.gateway, context.report
    subject, closed = unknown_client(context)
    observed = await gateway.send(subject, closed)
    if not observed.is_delivered and not observed.opened and after.keeps_alive:
        # Was it the request, or what was left of the one before it on the same connection?
        again = await gateway.send(subject, closed, fresh=True)
        if again.is_delivered or again.status != observed.status:
            report.fail(
                "DELETE body",
                f"after a DELETE, the next request on its connection failed: {observed.what()}",
                "read the body of a DELETE (Content-Length), or close the connection",
            )
            # It would disturb every other check that ends with a DELETE.
            raise Stop
        observed = again
    elif observed.opened and after.keeps_alive:
        report.warn(
            "DELETE body",
            "the backend closed the connection after a DELETE, although its answer had announced to keep it",
            "read the body of a DELETE (Content-Length)",
        )
    if observed.is_delivered:
        report.ok("DELETE of an unknown id", f"acknowledged with {observed.status}")
    else:
        _fail(context, "DELETE of an unknown id", observed, joined(_UNKNOWN_ADVICE, observed.mend()))


def unknown_client(context: Context) -> tuple[Subject, Closed]:
    """Return a client that never connected, and its end."""
    gateway = context.gateway
    connection_id = gateway.registry.prefix + token_urlsafe(16)[:RANDOM_LENGTH]
    subject = Subject(connection_id, context.settings.ws_hostname.text, None)
    closed = Closed(gateway.clock.wall(), disconnect=Disconnect(subject.ws_uri, 1006, "", 0, 0, 0, 0))
    return subject, closed


def _fail(context: Context, check: str, observed: Observed, advice: str) -> None:
    context.report.fail(
        check,
        f"{observed.what()}: it would be sent again for API_RETRY times {DELETE_RETRY_FACTOR}",
        advice,
    )
