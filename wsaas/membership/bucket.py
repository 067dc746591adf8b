"""A bucket: keys with their last value, in a stream of JetStream, laid out as NATS' key/value stores are.

So `nats kv` shows it, too. Reads are answered by the server that leads the stream, never by one that lags behind.
"""

import asyncio
from base64 import b64decode
from typing import Any, Final, NamedTuple

import orjson

from wsaas.membership.bus import REQUEST_TIMEOUT_S, Ack, Bus, Message, OnAck

MARKER_TTL_S: Final = 10
"""Seconds for which NATS keeps the marker of an entry whose life is over."""

PURGE_TTL_S: Final = 1
"""Seconds for which NATS keeps the marker of an entry that was purged. After that, nothing of it is left."""

LONG_HISTORY: Final = 64
"""Maximum number of values of a key in a bucket whose entries must not return after their removal.

With a history of 1, NATS drops the value as soon as it stores the marker of a purge, and notes nowhere that it has.
When it is killed after the marker has ended, values of the last two minutes are there again.
"""

PARALLEL_READS: Final = 64
"""Maximum number of values that are read at the same time."""

NOT_FOUND: Final = 10037
STREAM_NOT_FOUND: Final = 10059
STREAM_EXISTS: Final = 10058
NOT_CLUSTERED: Final = 10074
NO_PEERS: Final = 10005
UNUSABLE: Final = 1
"""The code of an error that only an operator can solve."""

_NANOSECONDS: Final = 1_000_000_000
_PURGE: Final = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": f"{PURGE_TTL_S}s"}


class BucketError(Exception):
    """JetStream refused a request, or did not answer (`code` 0). The text says why, for people."""

    def __init__(self, text: str, code: int = 0) -> None:
        """`code`: that of JetStream."""
        super().__init__(text)
        self.code = code


class Entry(NamedTuple):
    """A key and its value, None if it was purged or its life is over. `revision`: the sequence of the message."""

    key: str
    value: bytes | None
    revision: int


class Bucket:
    """The bucket `name`. Methods that are awaited raise `BucketError` without an answer."""

    def __init__(self, bus: Bus, name: str, history: int = 1) -> None:
        """Use `bus`. Call `set_up` before anything else, unless another process has.

        `history`: how many values of a key NATS keeps. Only with 1, watches see that the life of an entry is over.
        """
        self._bus = bus
        self._history = history
        self._start = f"$KV.{name}."
        self.name = name
        self.stream = f"KV_{name}"

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to NATS."""
        return self._bus.is_connected

    def put(self, key: str, value: bytes, on_ack: OnAck) -> None:
        """Write `value`. See `Bus.publish` for `on_ack`."""
        self._bus.publish(self._start + key, value, on_ack)

    def purge(self, key: str, on_ack: OnAck) -> None:
        """Remove `key`. See `Bus.publish` for `on_ack`."""
        self._bus.publish(self._start + key, b"", on_ack, headers=_PURGE)

    def entry(self, message: Message, revision: int) -> Entry:
        """Return the entry in a message of the stream."""
        is_marker = "KV-Operation" in message.headers or "Nats-Marker-Reason" in message.headers
        return Entry(message.subject[len(self._start) :], None if is_marker else message.data, revision)

    async def get(self, key: str) -> Entry | None:
        """Return the entry of `key`, with a value of None if it was removed; None if there is not even a marker."""
        try:
            found = await self._api(f"STREAM.MSG.GET.{self.stream}", {"last_by_subj": self._start + key})
        except BucketError as error:
            if error.code == NOT_FOUND:
                return None
            raise
        message = found["message"]
        headers = b64decode(message.get("hdrs", ""))
        is_marker = b"KV-Operation:" in headers or b"Nats-Marker-Reason:" in headers
        return Entry(key, None if is_marker else b64decode(message.get("data", "")), int(message["seq"]))

    async def has(self, key: str) -> bool:
        """Return whether `key` has a value."""
        found = await self.get(key)
        return found is not None and found.value is not None

    async def keys(self, pattern: str) -> list[str]:
        """Return the keys that match `pattern`, such as `lease.*`, also those of which only a marker is left."""
        found: list[str] = []
        while True:
            request = {"subjects_filter": self._start + pattern, "offset": len(found)}
            info = await self._api(f"STREAM.INFO.{self.stream}", request)
            subjects = info["state"].get("subjects") or {}
            found += [subject[len(self._start) :] for subject in subjects]
            if not subjects or len(found) >= int(info.get("total", 0)):
                return found

    async def entries(self, keys: list[str]) -> list[Entry]:
        """Return the entries of those of `keys` that have a value."""
        found: list[Entry] = []
        for start in range(0, len(keys), PARALLEL_READS):
            some = await asyncio.gather(*map(self.get, keys[start : start + PARALLEL_READS]))
            found += [entry for entry in some if entry is not None and entry.value is not None]
        return found

    async def create(self, key: str, value: bytes, ttl: float = 0, timeout: float = REQUEST_TIMEOUT_S) -> Ack:
        """Write `value` if `key` has none. `ttl`: seconds after which NATS removes it, 0 for never."""
        ack = await self.update(key, value, 0, ttl, timeout)
        if ack.is_conflict:
            found = await self.get(key)
            if found is None or found.value is None:
                ack = await self.update(key, value, 0 if found is None else found.revision, ttl, timeout)
        return ack

    async def update(
        self, key: str, value: bytes, revision: int, ttl: float = 0, timeout: float = REQUEST_TIMEOUT_S
    ) -> Ack:
        """Write `value` if the last revision of `key` is `revision`."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        if ttl:
            headers["Nats-TTL"] = f"{ttl:.0f}s"
        ack = await self._bus.store(self._start + key, value, headers, timeout)
        if ack is None:
            raise self._silence()
        return ack

    async def remove(self, key: str) -> bool:
        """Remove `key`; return whether NATS acknowledged that."""
        ack = await self._bus.store(self._start + key, b"", _PURGE)
        return ack is not None and ack.is_stored

    async def set_up(self) -> str:
        """Create the bucket if it does not exist; return when it was created, which tells it from a later one."""
        try:
            info = await self._api(f"STREAM.INFO.{self.stream}")
        except BucketError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            info = await self._create()
        self._check(info["config"])
        return str(info["created"])

    async def watch(self, inbox: str, name: str, heartbeat: float, pattern: str) -> int:
        """Let JetStream send the last entry of each key to `inbox`, and all later ones; return how many there are.

        `pattern`: of the keys, such as `lease.*`, or `>` for all. `name`: of the consumer. Each `heartbeat`
        seconds without an entry, JetStream sends a sign of life.
        """
        config = {
            "name": name,
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "filter_subject": f"{self._start}{pattern}",
            "idle_heartbeat": int(heartbeat * _NANOSECONDS),
            "inactive_threshold": int(max(5.0, 10 * heartbeat) * _NANOSECONDS),
            "mem_storage": True,
            "num_replicas": 1,
        }
        request = {"stream_name": self.stream, "config": config}
        found = await self._api(f"CONSUMER.CREATE.{self.stream}.{name}.{self._start}{pattern}", request)
        return int(found["num_pending"]) + int(found["delivered"]["consumer_seq"])

    async def stop_watch(self, name: str) -> None:
        """Delete the consumer `name`. It would end by itself, too."""
        await self._bus.request(f"$JS.API.CONSUMER.DELETE.{self.stream}.{name}", timeout=0.5)

    async def _create(self) -> Any:
        """Create the stream, on three servers if there are as many."""
        config = {
            "name": self.stream,
            "subjects": [f"{self._start}>"],
            "storage": "file",
            "discard": "new",
            "max_msgs_per_subject": self._history,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
        }
        if self._history == 1:
            config["subject_delete_marker_ttl"] = MARKER_TTL_S * _NANOSECONDS
        try:
            return await self._create_with({**config, "num_replicas": 3})
        except BucketError as error:
            if error.code not in {NOT_CLUSTERED, NO_PEERS}:
                raise
        return await self._create_with({**config, "num_replicas": 1})

    async def _create_with(self, config: dict[str, Any]) -> Any:
        try:
            return await self._api(f"STREAM.CREATE.{self.stream}", config)
        except BucketError as error:
            if error.code != STREAM_EXISTS:
                raise
        # Another process was faster.
        return await self._api(f"STREAM.INFO.{self.stream}")

    def _check(self, config: dict[str, Any]) -> None:
        """Raise `BucketError` unless a bucket that somebody else may have made can be used."""
        wrong = [
            name
            for name, is_right in {
                "allow_msg_ttl": config.get("allow_msg_ttl"),
                "allow_rollup_hdrs": config.get("allow_rollup_hdrs"),
                "subject_delete_marker_ttl": config.get("subject_delete_marker_ttl") or self._history > 1,
                "max_msgs_per_subject": config.get("max_msgs_per_subject") == self._history,
                "max_age": not config.get("max_age"),
            }.items()
            if not is_right
        ]
        if wrong:
            raise BucketError(f"the bucket {self.name} was made with another {', '.join(wrong)}: delete it", UNUSABLE)

    async def _api(self, name: str, request: dict[str, Any] | None = None) -> Any:
        """Return the answer of JetStream's API. Raises `BucketError`."""
        answer = await self._bus.request(f"$JS.API.{name}", b"" if request is None else orjson.dumps(request))
        if answer is None:
            raise self._silence()
        found = orjson.loads(answer.data)
        if error := found.get("error"):
            raise BucketError(f"JetStream: {error.get('description', 'refused')}", int(error.get("err_code", 0)))
        return found

    def _silence(self) -> BucketError:
        if not self._bus.is_connected:
            return BucketError("NATS is not connected")
        return BucketError("JetStream does not answer: it is disabled, slow, without a leader, or its disk is full")
