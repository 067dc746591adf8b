"""Starts the processes of workers: the same program, with the settings of the supervisor."""

import asyncio
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from dataclasses import fields

from wsaas import settings
from wsaas.worker_place import PLACE_VARIABLE, WorkerPlace


class Launcher:
    """Starts workers with the flags and the environment of the supervisor.

    `inherited`: the environment of this process, from which only what is no setting is used.
    """

    def __init__(
        self, flags: Mapping[str, str | None], environment: Mapping[str, str], inherited: Mapping[str, str]
    ) -> None:
        """Start nothing yet. `flags`: the text of each setting, None if it was not given."""
        names = {settings.variable(each) for each in fields(settings.Settings)}
        self._environment = {name: value for name, value in inherited.items() if name not in names} | {**environment}
        self._flags = flags

    async def launch(self, place: WorkerPlace, flags: Mapping[str, str]) -> Process:
        """Start the worker for `place`. `flags` replace those of the supervisor."""
        given = {**self._flags, **flags}.items()
        arguments = [f"{settings.flag(name)}={value}" for name, value in given if value is not None]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "wsaas", *arguments),
            env={**self._environment, PLACE_VARIABLE: place.to_text()},
            pass_fds=place.descriptors,
            # So it gets no signal from the terminal. The supervisor passes on what it should get.
            start_new_session=True,
            stdin=DEVNULL,
        )


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a channel."""
    return socket.socketpair()
