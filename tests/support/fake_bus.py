"""A fake of the connection to NATS, and of the bucket behind it."""

MEMBERS = "$KV.test-members."
CONNECTIONS = "$KV.test-connections."


class Answer:
    """What NATS answers to a write."""

    def __init__(self, error=""):
        self.error = error


class Write:
    """A write on its way to NATS. `on_ack`: called with the answer, None once it was called."""

    def __init__(self, subject, data, on_ack, headers):
        self.data = data
        self.headers = headers
        self.on_ack = on_ack
        self.subject = subject


class FakeBus:
    """Writes when a test says so. `stored`: what NATS has, by subject; `pending`: the writes on their way, in order.

    `is_writable`: whether anything can be sent.
    """

    def __init__(self):
        self.is_connected = True
        self.is_writable = True
        self.pending = []
        self.published = 0
        self.stored = {}

    def publish(self, subject, data, on_ack, *, headers=None):
        assert self.is_connected
        if not self.is_writable:
            on_ack(None)
            return
        self.published += 1
        self.pending.append(Write(subject, data, on_ack, headers))

    @property
    def keys(self):
        """The keys of the connections that NATS has."""
        return sorted(subject.removeprefix(CONNECTIONS) for subject in self.stored)

    def apply(self):
        """Let NATS apply the oldest write; return it."""
        write = self.pending.pop(0)
        if write.headers and write.headers["KV-Operation"] == "PURGE":
            assert write.headers["Nats-Rollup"] == "sub"
            self.stored.pop(write.subject, None)
        else:
            self.stored[write.subject] = write.data
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
