"""A fake of the bucket of NATS that the journals of all processes share."""


class Answer:
    """What NATS answers to a write."""

    def __init__(self, error=""):
        self.error = error


class Write:
    """A write on its way to NATS. `value`: None to remove the key; `on_ack`: None once it was called."""

    def __init__(self, key, value, on_ack):
        self.key = key
        self.on_ack = on_ack
        self.value = value


class FakeStore:
    """Writes when a test says so. `stored`: what NATS has, by key; `pending`: the writes on their way, in order.

    `is_writable`: whether anything can be sent; `published`: the number of writes that were sent.
    """

    def __init__(self):
        self.is_connected = True
        self.is_writable = True
        self.pending = []
        self.published = 0
        self.stored = {}

    def put(self, key, value, on_ack):
        assert value is not None
        self._publish(key, value, on_ack)

    def purge(self, key, on_ack):
        self._publish(key, None, on_ack)

    def _publish(self, key, value, on_ack):
        assert self.is_connected
        if not self.is_writable:
            on_ack(None)
            return
        self.published += 1
        self.pending.append(Write(key, value, on_ack))

    @property
    def keys(self):
        """The keys that NATS has."""
        return sorted(self.stored)

    def apply(self):
        """Let NATS apply the oldest write; return it."""
        write = self.pending.pop(0)
        if write.value is None:
            self.stored.pop(write.key, None)
        else:
            self.stored[write.key] = write.value
        return write

    def acknowledge(self):
        """Apply the oldest write, and report that."""
        self._report(self.apply(), Answer())

    def acknowledge_all(self):
        while self.pending:
            self.acknowledge()

    def refuse(self, why="no space left"):
        """Refuse the oldest write."""
        self._report(self.pending.pop(0), Answer(why))

    def time_out(self, number=0):
        """Report that no answer to a write came in time. It is applied later, unless the connection is lost."""
        self._report(self.pending[number], None)

    def disconnect(self, applied=0):
        """Lose the connection. NATS has applied the first `applied` of the writes on their way."""
        for _ in range(min(applied, len(self.pending))):
            self._report(self.apply(), None)
        self.is_connected = False
        pending, self.pending = self.pending, []
        for write in pending:
            self._report(write, None)

    def _report(self, write, answer):
        on_ack, write.on_ack = write.on_ack, None
        if on_ack is not None:
            on_ack(answer)
