"""What all checks share: the gateway, the report, and what the clients send."""

from collections.abc import Sequence
from dataclasses import dataclass

from wsaas.check.client import CREDENTIALS, Client, make_handshake
from wsaas.check.observed import Observed
from wsaas.check.observed_gateway import ObservedGateway
from wsaas.check.report import Report
from wsaas.delivery.pool import Failure
from wsaas.errors import BadRequest
from wsaas.events import Message
from wsaas.websocket.browser_authorization import take_token
from wsaas.websocket.handshake import Handshake


class Stop(Exception):
    """The remaining checks make no sense."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a check may do.

    `path`, `headers`, `message`: what the clients send: path and query, headers, a text message.
    `rate`: messages per second for which connections are suggested.
    `timeout`: seconds for the whole check.
    `is_quick`: only the checks that find the mistakes of a first backend.
    """

    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    message: str = "hello from wsaas check"
    rate: int = 100
    timeout: float = 60.0
    is_quick: bool = False


class Context:
    """One run of the checks.

    `connections`: `API_CONNECTIONS` of the node. `listens`: whether pushes can arrive. `messages`: all PUTs in order.
    `samples`: seconds that the backend took for each short message.
    """

    def __init__(self, gateway: ObservedGateway, report: Report, options: Options, connections: int) -> None:
        """Check the backend of `gateway`."""
        self.connections = connections
        self.gateway = gateway
        self.report = report
        self.options = options
        self.settings = gateway.settings
        self.messages: list[Observed] = []
        self.samples: list[float] = []
        self.listens = False
        self._client: Client | None = None

    @property
    def has_credentials(self) -> bool:
        """Whether the clients send credentials that can be left out."""
        given = any(name.lower() in CREDENTIALS for name, _ in self.options.headers)
        return given or self.handshake().authorization is not None

    def handshake(self, subprotocols: Sequence[str] = (), *, anonymous: bool = False) -> Handshake:
        """Return the handshake of a client. `anonymous`: without credentials."""
        headers = [each for each in self.options.headers if not anonymous or each[0].lower() not in CREDENTIALS]
        name = self.settings.ws_hostname
        made = make_handshake(self.options.path, f"{name.host}:{name.port}", headers, subprotocols)
        try:
            made = take_token(made, self.settings.browser_authorization)
        except BadRequest as error:
            self.report.fail("POST", f"the handshake is refused: {error.message}", "correct --path or --header")
            raise Stop from None
        if anonymous:
            made.authorization = None
        return made

    async def connect(self, subprotocols: Sequence[str] = (), *, anonymous: bool = False) -> tuple[Client, Observed]:
        """Let a client connect; return it and its POST."""
        return await self.gateway.connect(self.handshake(subprotocols, anonymous=anonymous))

    async def client(self) -> Client:
        """Return a client that can send: the last one or, if the backend has closed it, a new one."""
        if self._client is not None:
            if self._client.is_open:
                return self._client
            closed, self._client = self._client, None
            await self.gateway.disconnect(closed)
        client, observed = await self.connect(self.settings.subprotocols)
        if client.refusal is not None:
            self.report.fail(
                "POST", f"a client was accepted before, and now {observed.what()}", "see the log of the backend"
            )
            raise Stop
        self._client = client
        return client

    async def disconnect(self) -> Observed:
        """Disconnect the client; return its DELETE."""
        client, self._client = await self.client(), None
        return await self.gateway.disconnect(client)

    def keep(self, client: Client) -> None:
        """Use `client`, which was accepted, for the messages."""
        self._client = client

    async def deliver(self, message: Message) -> Observed:
        """Let a client send a message; return its PUT."""
        observed = await self.gateway.deliver(await self.client(), message)
        if observed.outcome is Failure.UNREACHABLE:
            # The circuit breaker is open now: no other message would be sent.
            self.report.fail("PUT", observed.what(), observed.mend())
            raise Stop
        self.messages.append(observed)
        return observed
