"""Builds the webhook of a node, as the settings ask for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from wsaas.counters import Counters
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.pool import Pool
from wsaas.delivery.webhook import Webhook
from wsaas.settings import Settings

if TYPE_CHECKING:
    from wsaas.tracing.recorder import Recorder


def build(
    settings: Settings, pool: Pool, breaker: CircuitBreaker, wall: Callable[[], float], counters: Counters
) -> "tuple[Webhook, Recorder | None]":
    """Return the webhook, and with `TRACES` what records its spans. The parameters are those of `Webhook`."""
    webhook = Webhook(settings, pool, breaker, wall, counters)
    if not settings.traces:
        return webhook, None
    # Otherwise, nothing of the extra is imported.
    from wsaas.tracing.recorder import Recorder  # noqa: PLC0415
    from wsaas.tracing.webhook import TracingWebhook  # noqa: PLC0415

    recorder = Recorder()
    return TracingWebhook(webhook, recorder, settings), recorder
