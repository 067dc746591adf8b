"""How many connections to the backend a rate of messages needs."""

from math import ceil
from statistics import median
from typing import Final

from wsaas.check.context import Context
from wsaas.check.observed import milliseconds
from wsaas.events import Message
from wsaas.log.wording import counted

SAMPLES: Final = 5
"""Messages that are sent to measure the time of an answer, besides those of the other checks."""

HEADROOM: Final = 2
"""Suggested connections for each one that is busy on average: requests do not come evenly."""

SLOW_S: Final = 1.0
"""Median time of an answer, in seconds, that is reported as slow."""


async def check_capacity(context: Context) -> None:
    """Measure the time of an answer, and compare the connections that it needs with API_CONNECTIONS."""
    text = context.options.message.encode()
    for _ in range(SAMPLES if context.samples else 0):
        observed = await context.deliver(Message(text=True, data=text))
        if observed.is_delivered:
            context.samples.append(observed.seconds)
    if not context.samples:
        return
    rate, limit, report = context.options.rate, context.connections, context.report
    usual, slowest = median(context.samples), max(context.samples)
    needed = max(1, ceil(HEADROOM * rate * usual))
    times = f"answers take {milliseconds(usual)} (at most {milliseconds(slowest)})"
    needing = f"{counted(rate, 'message')} per second {'needs' if rate == 1 else 'need'}"
    busy = f"{needing} about {counted(needed, 'connection')}"
    if usual >= SLOW_S:
        report.warn(
            "latency",
            times,
            f"answer sooner, and do slow work later: a client can send {1 / usual:.1f} messages per second",
        )
    if needed > limit:
        report.warn(
            "API_CONNECTIONS",
            f"{times}: {busy}, and API_CONNECTIONS is {limit}",
            f"set API_CONNECTIONS={needed}, or answer sooner",
        )
    else:
        report.ok("API_CONNECTIONS", f"{times}: {busy} of {limit}")
