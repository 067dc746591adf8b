"""The parts that every delivery to the backend uses."""

from dataclasses import dataclass, field

from wsaas.clock import Clock
from wsaas.counters import Counters
from wsaas.delivery.journal import Journal
from wsaas.delivery.webhook import Webhook
from wsaas.settings import Settings


@dataclass(frozen=True, slots=True)
class DeliveryServices:
    """The parts of a node that deliver events: shared by sessions and recovery."""

    settings: Settings
    clock: Clock
    webhook: Webhook
    journal: Journal
    counters: Counters = field(default_factory=Counters, kw_only=True)
