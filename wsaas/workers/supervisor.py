"""Starts the workers of a node, keeps them running, and stops them together.

The supervisor serves nobody. It reserves the addresses, tells the workers about each other, and starts a worker again
when its process ended. The workers end by themselves when their supervisor is gone.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from logging import DEBUG, WARNING
from typing import Final

from wsaas.journals import DRAIN_GRACE_S
from wsaas.log import logger
from wsaas.setting_types import Address
from wsaas.settings import Settings
from wsaas.transport.reservation import NOTHING
from wsaas.workers.channel import Channel, Message
from wsaas.workers.heartbeat import Heartbeat
from wsaas.workers.launcher import Launcher, channel_pair
from wsaas.workers.reload_round import ReloadRound
from wsaas.workers.runtime import Runtime
from wsaas.workers.worker_process import WorkerProcess, end_of
from wsaas.workers.worker_state import ENDED, LISTENING, REACHABLE, WAITING
from wsaas.workers.worker_table import WorkerTable

START_TIMEOUT_S: Final = 60.0
"""Seconds in which others have to be able to reach a new worker, apart from the time to wait for a journal in use."""

ADMISSION_TIMEOUT_S: Final = 10.0
"""Seconds after which a new worker listens although another one has not acknowledged it. That one hangs."""


class Supervisor:
    """The workers of one node. Call `start`, then `run`, which returns after `stop`."""

    def __init__(self, settings: Settings, launcher: Launcher, given: Mapping[str, Sequence[int]] = NOTHING) -> None:
        """Start nothing yet. `given`: descriptors of sockets that systemd has opened, by address."""
        self._all_listen = asyncio.Event()
        self._launcher = launcher
        self._reload = ReloadRound(0, (), bool)
        self._runtime = Runtime(settings, given)
        self._settings = settings
        self._stopping = asyncio.Event()
        self._table = WorkerTable()
        self._tasks: list[asyncio.Task[None]] = []
        self._workers = [WorkerProcess(index) for index in range(settings.workers)]
        self._heartbeat = Heartbeat(self._workers, settings.drain_timeout + DRAIN_GRACE_S + START_TIMEOUT_S)
        # Where the next start or another node finds what a worker owed.
        self._has_heir = settings.journal is not None or bool(settings.cluster)

    @property
    def addresses(self) -> list[Address]:
        """The bound addresses: for clients, then for REST requests if that is a different one."""
        return self._runtime.addresses

    def is_stopping(self) -> bool:
        """Whether `stop` was called, or a worker could not start."""
        return self._stopping.is_set()

    async def start(self) -> None:
        """Start the workers; return when all of them listen, or when the node is stopping.

        Raises `OSError`, whose `filename` is an address that cannot be bound.
        """
        try:
            await self._runtime.open(os.environ, self._stopping)
        except OSError:
            self._runtime.close()
            raise
        self._tasks = [asyncio.ensure_future(self._keep(worker)) for worker in self._workers]
        self._heartbeat.start()
        await self._first(self._all_listen, self._stopping)

    async def run(self) -> int:
        """Keep the workers running until `stop` is called, then wait for them; return the worst exit status."""
        await self._stopping.wait()
        timeout = self._settings.drain_timeout + DRAIN_GRACE_S
        _, late = await asyncio.wait(self._tasks, timeout=timeout)
        if late:
            for worker in self._workers:
                if worker.kill():
                    loss = "" if self._has_heir else "; the DELETEs of its clients are lost"
                    logger.error("%s did not stop in %g s: it was killed%s", worker.name, timeout, loss)
        await asyncio.gather(*self._tasks)
        self._heartbeat.stop()
        self._runtime.close()
        logger.info("stopped")
        return max(worker.status for worker in self._workers)

    def stop(self) -> None:
        """Drain all workers. A second call cuts the drain short."""
        message = {"hurry": True} if self.is_stopping() else {"stop": True}
        self._stopping.set()
        self._tell_all(message)

    def reload(self, done: Callable[[bool], object] = bool) -> None:
        """Make all workers reload TLS files and secret files; call `done` with whether all could be used."""
        # A worker whose channel is not open has not read the files yet, or is about to end.
        running = [worker.index for worker in self._workers if worker.channel is not None and worker.channel.is_open]
        self._reload = ReloadRound(self._reload.number + 1, running, done)
        self._tell_all({"reload": self._reload.number})
        self._reload.begin()

    def summary(self) -> str:
        """Return what the node does, for people."""
        listening = sum(worker.state is LISTENING for worker in self._workers)
        return f"{listening} of {len(self._workers)} workers listen on {', '.join(map(str, self.addresses))}"

    def is_alive(self) -> bool:
        """Whether not all workers hang. One that hangs is restarted without the others."""
        return self._heartbeat.is_answered()

    async def _keep(self, worker: WorkerProcess) -> None:
        """Run the processes of a worker, one after another, until the node is stopping."""
        while not self.is_stopping():
            how = await self._run_process(worker)
            self._forget(worker)
            if self.is_stopping():
                logger.log(WARNING if worker.status else DEBUG, "%s", how)
            elif self._all_listen.is_set():
                await self._back_off(worker, how)
            else:
                logger.error("%s before all workers listened: stopping", how)
                worker.status = worker.status or 1
                self.stop()
        worker.set_state(ENDED)

    async def _back_off(self, worker: WorkerProcess, how: str) -> None:
        """Wait before the next start of a worker, or until the node is stopping."""
        worker.set_state(WAITING)
        delay = worker.delay.after(worker.life())
        when = f"in {delay:g} s" if delay else "at once"
        if worker.status:
            logger.warning("%s: its successor starts %s and sends the DELETEs of its clients", how, when)
        else:
            logger.info("%s: its successor starts %s", how, when)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay)
        if self.is_stopping() and worker.status and not self._has_heir:
            logger.error(
                "%s has no successor, as the node is stopping: the DELETEs of its clients are lost", worker.name
            )

    async def _run_process(self, worker: WorkerProcess) -> str:
        """Run a process of a worker until it ends; return how it ended, for people."""
        ours, theirs = channel_pair()
        with theirs:
            place = self._runtime.place(worker.index, theirs.fileno())
            try:
                process = await self._launcher.launch(place, self._runtime.flags)
            except OSError as error:
                ours.close()
                worker.status = 1
                return f"{worker.name} could not be started ({error.strerror})"
        channel = Channel(partial(self._received, worker), lambda: None)
        worker.started(process, channel)
        logger.info("%s is process %d", worker.name, process.pid)
        await channel.open(ours)
        if self.is_stopping():
            channel.send({"stop": True})
        code = await process.wait()
        channel.close()
        worker.ended(code)
        return f"{worker.name} (process {process.pid}) {end_of(code)}"

    def _received(self, worker: WorkerProcess, message: Message) -> None:
        """Handle a message of a worker."""
        if prefix := message.get("worker"):
            worker.set_state(REACHABLE)
            worker.unanswered = 0
            self._table.add(worker.index, prefix)
            self._send_table()
            call_later = asyncio.get_running_loop().call_later
            worker.admission = call_later(ADMISSION_TIMEOUT_S, self._admit, worker)
        elif version := message.get("knows"):
            self._table.acknowledge(worker.index, version)
            self._admit_ready()
        elif "pong" in message:
            worker.unanswered = 0
        elif number := message.get("reloaded"):
            if number == self._reload.number:
                self._reload.answered(worker.index, ok=message["ok"])
        else:
            # It says that it listens.
            worker.set_state(LISTENING)
            if all(each.state is LISTENING for each in self._workers):
                self._all_listen.set()

    def _forget(self, worker: WorkerProcess) -> None:
        """Tell the others that the process of a worker ended."""
        self._runtime.forget(worker.index)
        self._reload.answered(worker.index, ok=True)
        if self._table.remove(worker.index):
            self._send_table()
            self._admit_ready()

    def _send_table(self) -> None:
        """Tell all workers that others can reach which ones there are."""
        message = {"peers": self._table.peers, "version": self._table.version}
        for index in self._table:
            self._tell(self._workers[index], message)

    def _admit_ready(self) -> None:
        """Let those workers listen that all others know. At the start, all of them begin at the same time."""
        if len(self._table) < len(self._workers) and not self._all_listen.is_set():
            return
        for index in self._table.take_ready():
            self._let_listen(self._workers[index])

    def _admit(self, worker: WorkerProcess) -> None:
        """Let a worker listen although another one hangs."""
        logger.warning("%s listens, but another worker has not answered for %g s", worker.name, ADMISSION_TIMEOUT_S)
        self._table.admit(worker.index)
        self._let_listen(worker)

    def _let_listen(self, worker: WorkerProcess) -> None:
        worker.admission.cancel()
        self._tell(worker, {"listen": True})

    def _tell_all(self, message: Message) -> None:
        for worker in self._workers:
            self._tell(worker, message)

    def _tell(self, worker: WorkerProcess, message: Message) -> None:
        if worker.channel is not None:
            worker.channel.send(message)

    async def _first(self, *events: asyncio.Event) -> None:
        """Wait for the first of `events`."""
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
