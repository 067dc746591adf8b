"""A worker: a gateway that starts, and stops, with the other workers of its node."""

import asyncio
import os
import socket
from pathlib import Path

from wsaas.cluster.peers import Place
from wsaas.delivery.journal import JournalError
from wsaas.errors import SettingError
from wsaas.gateway import Gateway
from wsaas.log import logger
from wsaas.memory import gc_scheduler
from wsaas.settings import Settings
from wsaas.start_report import report_start_failure
from wsaas.worker_place import WorkerPlace, worker_name
from wsaas.workers.channel import Channel, Message
from wsaas.workers.runtime_folder import sweep_folder


class Worker:
    """A gateway at `place`, which the supervisor controls by the channel."""

    def __init__(self, settings: Settings, place: WorkerPlace, loop: asyncio.AbstractEventLoop) -> None:
        """Build the gateway. `settings`: those of this worker."""
        self._channel = Channel(self._received, self._orphaned)
        self._gateway = Gateway(settings, loop, place)
        self._is_orphaned = False
        self._inherited = [each for descriptors in place.sockets.values() for each in descriptors]
        self._is_stopping = False
        self._may_proceed = asyncio.Event()
        self._place = place
        self._sigterms = 0
        if self._gateway.journals.replication is not None:
            self._gateway.journals.replication.start_anew = self._make_room

    async def run(self) -> int:
        """Serve until the supervisor or a signal stops the worker; return the exit status."""
        gateway, place = self._gateway, self._place
        await self._channel.open(socket.socket(fileno=place.channel))
        try:
            gateway.prepare()
            await gateway.open_journal()
            await gateway.start_private(Path(place.folder))
            gateway.begin()
            self._channel.send({"worker": gateway.sessions.prefix})
            await self._may_proceed.wait()
            if not self._is_stopping:
                await gateway.join()
            if not self._is_stopping:
                await gateway.listen()
                gc_scheduler.stop_full_collections()
                self._channel.send({"listening": [str(address) for address in gateway.addresses]})
            if self._is_orphaned:
                # Perhaps the supervisor ended while the addresses were being bound.
                self._give_up_addresses()
        except (SettingError, OSError, JournalError) as error:
            self._is_stopping = True
            await gateway.close()
            self._channel.close()
            return report_start_failure(error)
        delivered = await gateway.run()
        self._channel.close()
        if self._is_orphaned:
            self._clean_up()
        return 0 if delivered else 1

    def terminate(self) -> None:
        """Handle SIGTERM to this worker alone: drain. A second one cuts the drain short.

        New clients get to the other workers. What is not delivered is left to the successor, unless the supervisor
        stops the node, too.
        """
        self._sigterms += 1
        if self._sigterms > 1:
            self._gateway.hurry()
        self._gateway.stop_accepting_clients()
        self._stop()

    def _received(self, message: Message) -> None:
        """Handle a message of the supervisor."""
        if "peers" in message:
            self._update_peers(message["peers"])
            self._channel.send({"knows": message["version"]})
        elif "ping" in message:
            self._channel.send({"pong": True})
        elif "listen" in message:
            self._may_proceed.set()
        elif "reload" in message:
            number = message["reload"]
            self._gateway.reload(lambda ok: self._channel.send({"reloaded": number, "ok": ok}))
        elif "stop" in message:
            self._end_with_node()
        elif "hurry" in message:
            self._gateway.hurry()

    def _orphaned(self) -> None:
        """Drain, as the supervisor is gone, or has closed the channel at the end of this worker."""
        if not self._is_stopping:
            logger.error("the supervisor is gone: stopping")
        self._is_orphaned = True
        self._give_up_addresses()
        self._end_with_node()

    def _give_up_addresses(self) -> None:
        """Let the next supervisor have the addresses while this worker drains."""
        self._gateway.stop_listening()
        while self._inherited:
            os.close(self._inherited.pop())

    def _end_with_node(self) -> None:
        """Drain. No successor will deliver what is left; in a cluster, another node does."""
        journals = self._gateway.journals
        journals.has_heir = self._place.is_journal_kept or journals.replication is not None
        self._stop()

    def _make_room(self) -> None:
        """End after this process was declared dead: the other workers know it by the prefix that it must not use."""
        logger.warning("%s ends, so that another process takes its place", self._place.name)
        self._stop()

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._gateway.stop()
            self._may_proceed.set()

    def _update_peers(self, peers: dict[str, int]) -> None:
        own, folder = self._gateway.sessions.prefix, Path(self._place.folder)
        self._gateway.peers.update(
            {
                prefix: Place(worker_name(index), str(folder / f"{prefix}.sock"))
                for prefix, index in peers.items()
                if prefix != own
            }
        )

    def _clean_up(self) -> None:
        """Remove the folder, as the supervisor would have done, if this is the last worker."""
        if self._place.lock is not None:
            os.close(self._place.lock)
        sweep_folder(Path(self._place.folder))
