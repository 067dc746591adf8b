"""A response whose body has no end yet: it is produced while the caller reads it."""

from abc import ABC, abstractmethod
from typing import Protocol


class Sink(Protocol):
    """Takes the body of a streamed response."""

    @property
    def is_full(self) -> bool:
        """Whether the caller does not read fast enough. `StreamedResponse.resume` is called when it has caught up."""

    def write(self, data: bytes) -> None:
        """Send a part of the body."""

    def end(self) -> None:
        """End the body. Nothing else is called afterwards, in either direction."""


class StreamedResponse(ABC):
    """A response with status 200. `headers`: those that are not added to every response."""

    headers: tuple[tuple[str, str], ...] = ()
    content_type = "text/event-stream"

    @abstractmethod
    def start(self, sink: Sink) -> None:
        """Begin to write the body to `sink`. Called once, after the head was sent."""

    @abstractmethod
    def resume(self) -> None:
        """The sink is not full any more."""

    @abstractmethod
    def cancel(self) -> None:
        """The caller went away, or the node is stopping: write nothing any more."""
