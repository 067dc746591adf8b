"""Builds the webhook of a node, as the settings ask for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from wsaas.counters import Counters
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.pool import Pool
from wsaas.delivery.webhook import Webhook
from wsaas.setting_types import PublicName
from wsaas.settings import Settings

if TYPE_CHECKING:
    from wsaas.tracing.recorder import Recorder

ESCAPED_SIZE: Final = 6
"""Maximum number of bytes that a byte of a message takes in JSON: a control character is written as `\\u0001`."""

ENVELOPE_SIZE: Final = 65_536
"""Bytes of an answer in the format of AWS, besides those of the message in it."""


def build(
    settings: Settings, pool: Pool, breaker: CircuitBreaker, wall: Callable[[], float], counters: Counters
) -> "tuple[Webhook, Recorder | None]":
    """Return the webhook, and with `TRACES` what records its spans. The parameters are those of `Webhook`."""
    webhook = Webhook(settings, pool, breaker, wall, counters)
    if settings.event_format == "aws":
        from wsaas.event_formats.aws import AwsWebhook  # noqa: PLC0415 - the native format needs none of it

        webhook = AwsWebhook(webhook, settings)
    elif settings.event_format == "azure":
        from wsaas.event_formats.azure import AzureWebhook  # noqa: PLC0415 - as above

        webhook = AzureWebhook(webhook, settings)
    if not settings.traces:
        return webhook, None
    # Otherwise, nothing of the extra is imported.
    from wsaas.tracing.recorder import Recorder  # noqa: PLC0415
    from wsaas.tracing.webhook import TracingWebhook  # noqa: PLC0415

    recorder = Recorder()
    return TracingWebhook(webhook, recorder, settings), recorder


def max_answer_size(settings: Settings) -> int:
    """Return how many bytes the body of an answer of the backend may have. One message has to fit."""
    size = settings.max_message_size
    return ESCAPED_SIZE * size + ENVELOPE_SIZE if settings.event_format == "aws" else size


def aws_endpoint(name: PublicName) -> str:
    """Return the endpoint that the SDKs of AWS need, for nodes with this `WS_HOSTNAME`."""
    from wsaas.event_formats.aws_events import place_of  # noqa: PLC0415 - as above

    place = place_of(name.text)
    return f"{place.scheme}://{place.domain}/{place.stage}"
