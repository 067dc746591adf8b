"""What the workers of a node share: addresses, a folder for private sockets, and counts."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from wsaas import shared_counts
from wsaas.delivery.journal_adoption import worker_journal
from wsaas.setting_types import Address
from wsaas.settings import Settings, control_address, listen_address
from wsaas.shared_counts import SharedCounts
from wsaas.transport.reservation import Reservation
from wsaas.worker_place import WorkerPlace


class Runtime:
    """The addresses, the folder and the counts, from `open` until `close`.

    `addresses`: for clients, then for REST requests if that is a different one. `flags`: settings with the ports that
    were bound.
    """

    def __init__(self, settings: Settings) -> None:
        """Open nothing yet."""
        self._counts: SharedCounts | None = None
        self._counts_descriptor: int | None = None
        self._folder = ""
        self._reservation = Reservation()
        self._settings = settings
        self.addresses: list[Address] = []
        self.flags: dict[str, str] = {"workers": str(settings.workers)}

    async def open(self, environment: Mapping[str, str]) -> None:
        """Reserve the addresses, and make the folder. Raises `OSError`, whose `filename` is what cannot be used."""
        await self._reserve()
        settings = self._settings
        user = environment.get("XDG_RUNTIME_DIR", "")
        # The folder of the user, which is in memory, if there is one.
        self._folder = tempfile.mkdtemp(prefix="wsaas-", dir=user if os.access(user, os.W_OK) else None)
        if settings.max_connections or settings.max_connections_per_address:
            self._counts_descriptor = shared_counts.create(settings.workers)
            self._counts = SharedCounts(self._counts_descriptor, 0, settings.workers)

    def place(self, index: int, channel: int) -> WorkerPlace:
        """Return the place of worker `index`. `channel`: descriptor of its end of the channel."""
        base = self._settings.journal
        return WorkerPlace(
            index=index,
            count=self._settings.workers,
            channel=channel,
            folder=self._folder,
            journal=str(worker_journal(base or Path(self._folder, "journal"), index + 1)),
            is_journal_kept=base is not None,
            counts=self._counts_descriptor,
            sockets=self._reservation.sockets,
        )

    def forget(self, index: int) -> None:
        """Remove the counts of worker `index`, whose process ended."""
        if self._counts is not None:
            self._counts.clear(index)

    def close(self) -> None:
        """Release the addresses, and remove the folder. May be called again."""
        self._reservation.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""
        if self._counts is not None and self._counts_descriptor is not None:
            self._counts.close()
            os.close(self._counts_descriptor)
            self._counts = self._counts_descriptor = None

    async def _reserve(self) -> None:
        settings = self._settings
        clients, control = listen_address(settings), control_address(settings)
        bound = await self._reservation.reserve(clients, settings.listen_mode)
        self.addresses = [bound]
        self.flags["listen"] = str(bound)
        if control == clients:
            if settings.control_listen is not None:
                self.flags["control_listen"] = str(bound)
        elif control.ports > 1:
            for port in range(control.port, control.port + settings.workers):
                await self._reservation.reserve(Address(control.host, port), settings.listen_mode)
            self.addresses.append(replace(control, ports=settings.workers))
        else:
            self.addresses.append(await self._reservation.reserve(control, settings.listen_mode))
            self.flags["control_listen"] = str(self.addresses[-1])
