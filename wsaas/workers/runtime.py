"""What the workers of a node share: addresses, a folder for private sockets, and counts."""

import asyncio
import errno
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from wsaas import shared_counts
from wsaas.delivery.journal_adoption import worker_journal
from wsaas.journals import DRAIN_GRACE_S
from wsaas.log import logger
from wsaas.metrics import shared_rows
from wsaas.setting_types import Address
from wsaas.settings import Settings, control_address, listen_address
from wsaas.shared_counts import SharedCounts
from wsaas.transport.reservation import NOTHING, Reservation
from wsaas.worker_place import WorkerPlace
from wsaas.workers.runtime_folder import RuntimeFolder, parent_folder, sweep

RETRY_S: Final = 0.05
"""Seconds between two attempts to bind an address that workers without a supervisor still use."""

_IN_USE: Final = "%s is in use, perhaps by workers of a supervisor that was killed: waiting for up to %g s"


class Runtime:
    """The addresses, the folder and the counts, from `open` until `close`.

    `addresses`: for clients, then for REST requests if that is a different one. `flags`: settings with the ports that
    were bound.
    """

    def __init__(self, settings: Settings, given: Mapping[str, Sequence[int]] = NOTHING) -> None:
        """Open nothing yet. `given`: descriptors of sockets that systemd has opened, by address."""
        self._given = given
        self._counts: SharedCounts | None = None
        self._counts_descriptor: int | None = None
        self._metrics_descriptor: int | None = None
        self._folder = RuntimeFolder()
        self._node = secrets.token_urlsafe(6)
        self._reservation = Reservation(given)
        self._settings = settings
        self.addresses: list[Address] = []
        self.flags: dict[str, str] = {"workers": str(settings.workers)}

    async def open(self, environment: Mapping[str, str], stopping: asyncio.Event) -> None:
        """Reserve the addresses, and make the folder. Raises `OSError`, whose `filename` is what cannot be used.

        Waits for the workers of a supervisor that was killed, which may not have given up the addresses yet, but not
        when `stopping` is set.
        """
        parent = parent_folder(environment)
        await self._reserve_all(parent, stopping)
        settings = self._settings
        self._folder.create(parent)
        self._metrics_descriptor = shared_rows.create(settings.workers)
        if settings.max_connections or settings.max_connections_per_address:
            self._counts_descriptor = shared_counts.create(settings.workers)
            self._counts = SharedCounts(self._counts_descriptor, 0, settings.workers)

    def place(self, index: int, channel: int) -> WorkerPlace:
        """Return the place of worker `index`. `channel`: descriptor of its end of the channel."""
        base, folder = self._settings.journal, self._folder
        return WorkerPlace(
            index=index,
            count=self._settings.workers,
            channel=channel,
            folder=folder.path,
            journal=str(worker_journal(base or Path(folder.path, "journal"), index + 1)),
            is_journal_kept=base is not None,
            node=self._node,
            counts=self._counts_descriptor,
            metrics=self._metrics_descriptor,
            lock=folder.lock,
            sockets=self._reservation.sockets,
            kept=[*self._given],
        )

    def forget(self, index: int) -> None:
        """Remove the counts of worker `index`, whose process ended."""
        if self._counts is not None:
            self._counts.clear(index)

    def close(self) -> None:
        """Release the addresses, and remove the folder. May be called again."""
        self._reservation.close()
        self._folder.remove()
        if self._metrics_descriptor is not None:
            os.close(self._metrics_descriptor)
            self._metrics_descriptor = None
        if self._counts is not None and self._counts_descriptor is not None:
            self._counts.close()
            os.close(self._counts_descriptor)
            self._counts = self._counts_descriptor = None

    async def _reserve_all(self, parent: Path, stopping: asyncio.Event) -> None:
        """Reserve the addresses. Removes the folders in `parent` that nobody uses any more."""
        limit = self._settings.drain_timeout + DRAIN_GRACE_S
        now = asyncio.get_running_loop().time
        deadline = now() + limit
        has_orphans, is_waiting = sweep(parent), False
        while True:
            try:
                return await self._reserve()
            except OSError as error:
                is_over = stopping.is_set() or now() >= deadline
                if error.errno != errno.EADDRINUSE or not has_orphans or is_over:
                    raise
                self._reservation.close()
                if not is_waiting:
                    is_waiting = True
                    logger.warning(_IN_USE, error.filename, limit)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stopping.wait(), RETRY_S)
            # There is one more attempt when they are gone.
            has_orphans = sweep(parent)

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
