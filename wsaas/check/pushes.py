"""Pushes: whether the backend reaches the `ws_uri` of a client."""

import asyncio
from typing import Final

from wsaas.check.client import MARK
from wsaas.check.context import Context
from wsaas.log.wording import counted
from wsaas.membership.tasks import wait_for
from wsaas.settings import control_address

PUSH_WAIT_S: Final = 2.0
"""Seconds that a push may take to arrive after the last message."""

_SUCCESS: Final = 2
_MEND: Final = {
    400: "send a body that is UTF-8 if it is text",
    401: "send Authorization: Bearer with the CONTROL_TOKEN",
    403: "connect to the host of ws_uri, and send neither Origin nor Sec-Fetch-Site",
    404: "use ws_uri as it is in the POST, and in the header Ws-Uri",
    405: "PUT, DELETE or GET ws_uri",
    410: "use the ws_uri of this client; 410 means that the client is gone",
    413: "send less than MAX_MESSAGE_SIZE bytes at once",
}


async def listen(context: Context) -> None:
    """Listen where the backend reaches the gateway."""
    try:
        await context.gateway.listen()
    except OSError as error:
        context.report.warn(
            "listener",
            f"pushes were not tried, as the check cannot listen on {error.filename}: {error.strerror}",
            "stop the gateway that listens there, or give --listen and --ws-hostname at which the backend reaches "
            "this machine",
        )
    else:
        context.listens = True


async def check_pushes(context: Context) -> None:
    """Wait until the backend has made a request to the gateway, and report how it was answered."""
    if not context.listens:
        return
    api, report, name = context.gateway.api, context.report, context.settings.ws_hostname.text
    try:
        await wait_for(api.arrived.wait(), PUSH_WAIT_S)
    except asyncio.TimeoutError:
        report.warn(
            "push",
            f"no request arrived at {name} within {PUSH_WAIT_S:g} s",
            f"let the backend PUT something to ws_uri when request.headers of the POST has {MARK}; if it does, see "
            f"whether it can connect to {name} (DNS, firewall, container network; the check listens on "
            f"{control_address(context.settings)})",
        )
        return
    taken = sum(status // 100 == _SUCCESS for status in api.statuses)
    if taken:
        report.ok("push", f"the backend reaches {name}: {counted(taken, 'request was', 'requests were')} carried out")
    else:
        status = api.statuses[0]
        report.fail(
            "push", f"the backend reaches {name}, but its request was answered with {status}", _MEND.get(status, "")
        )
