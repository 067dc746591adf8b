"""A bus that answers as a test says, and a bucket in memory."""

from collections.abc import Callable
from typing import Any

import orjson

from wsaas.membership.bucket import Bucket, BucketError, Entry
from wsaas.membership.bus import Ack, Bus, Message


class FakeBus(Bus):
    """Answers requests with `answers` (by the subject's end, as JSON), and keeps the `requests`."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.requests: list[tuple[str, Any]] = []
        self.is_connected = True

    async def request(self, subject: str, data: bytes = b"", **_options: Any) -> Message | None:
        self.requests.append((subject, orjson.loads(data) if data else None))
        for end, answers in self.answers.items():
            if end in subject:
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                return None if answer is None else Message("", "", orjson.dumps(answer), {})
        return None


class FakeBucket(Bucket):
    """A bucket in memory. `before` is called before each operation, and may raise; `acks`: replace those of updates."""

    def __init__(self) -> None:
        self.name = "fake"
        self.values: dict[str, tuple[bytes | None, int]] = {}
        self.before: Callable[[str, str], None] = lambda _operation, _key: None
        self.acks: list[Ack | None] = []
        self.created = "today"
        self._revision = 0

    async def set_up(self) -> str:
        self.before("set_up", "")
        return self.created

    async def get(self, key: str) -> Entry | None:
        self.before("get", key)
        found = self.values.get(key)
        return None if found is None else Entry(key, *found)

    async def update(self, key: str, value: bytes, revision: int, ttl: float = 0, timeout: float = 0) -> Ack:
        self.before("update", key)
        assert ttl >= 0
        assert timeout >= 0
        if self.acks:
            ack = self.acks.pop(0)
            if ack is None:
                self.set(key, value)
                raise BucketError("NATS does not acknowledge")
            return ack
        if revision != self.values.get(key, (None, 0))[1]:
            return Ack(0, "wrong last sequence", 10071)
        self.set(key, value)
        return Ack(self._revision)

    async def remove(self, key: str) -> bool:
        self.before("remove", key)
        self.set(key, None)
        return True

    def set(self, key: str, value: bytes | None) -> None:
        """Write a value."""
        self._revision += 1
        self.values[key] = (value, self._revision)

    def value(self, key: str) -> bytes | None:
        """Return a value."""
        return self.values.get(key, (None, 0))[0]
