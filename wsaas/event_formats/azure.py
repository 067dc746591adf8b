"""The webhook of `EVENT_FORMAT=azure`: posts the events of Azure Web PubSub to event handlers.

Order and retries are those of the native format. Besides its events, a handler gets a `connected` event when a client
has its 101. Nothing waits for that one, and it is not sent again.
"""

from typing import Any, Final

from wsaas import __version__, errors
from wsaas.access_keys import audiences, bearer_token
from wsaas.clock import rfc3339
from wsaas.delivery.connect_answer import judge_opened
from wsaas.delivery.event_bodies import read_disconnect
from wsaas.delivery.failure_report import FAILED
from wsaas.delivery.message_answer import InvalidAnswer
from wsaas.delivery.pool import Exchange, Outcome
from wsaas.delivery.verdicts import DELIVERED, Accepted, Delivered, Rejected, Retry, Undeliverable, Verdict
from wsaas.delivery.webhook import BINARY, Delivery, Subject, Webhook
from wsaas.delivery.webhook_wrapper import WebhookWrapper
from wsaas.event_formats.azure_answers import accepted, read_answer, read_connect
from wsaas.event_formats.azure_events import connect_json, disconnect_json, groups_in, header_value
from wsaas.event_formats.azure_preflight import PreflightPool
from wsaas.events import Closed, Event, Message, Opened
from wsaas.http.response import Response
from wsaas.hubs import hub_in_path, hub_in_url, is_hub
from wsaas.log.throttle import throttle
from wsaas.reason import Reason
from wsaas.setting_types import PublicName
from wsaas.settings import Settings
from wsaas.websocket.handshake import select_subprotocol

CONNECTED: Final = "connected"
"""The name of the event, and the end of its `ce-id`."""

_CONNECTED_NUMBER: Final = -3
"""Its number in a span id (see `delivery.trace`)."""

NAMES: Final[dict[type[Event], str]] = {Opened: "connect", Message: "message", Closed: "disconnected"}
_JSON: Final = "Content-Type: application/json; charset=utf-8\r\nContent-Length: "
_SUCCESS: Final = 2
_REFUSED: Final = 4
_NOT_REPEATED: Final = "it is not sent again, and the client stays"
_REPAIRABLE: Final = frozenset({401, 403, 408, 425, 429})
"""Statuses with which a handler may refuse a `disconnected` event that it wants. Others of 4xx say that it does not."""


class AzureWebhook(WebhookWrapper):
    """Has a webhook for each connection, which knows its hub and its user.

    `hub`: of clients whose URL names none. `preflight`: asks the backend before the first connect event.
    """

    def __init__(self, inner: Webhook, settings: Settings) -> None:
        """Send as `inner` does, in another format."""
        super().__init__(inner)
        origin = origin_of(settings.ws_hostname)
        self.head = (
            f" HTTP/1.1\r\nHost: {settings.api_uri.authority}\r\nUser-Agent: wsaas/{__version__}\r\n"
            f"Accept-Encoding: identity\r\nWebHook-Request-Origin: {origin}\r\nce-specversion: 1.0\r\n"
            "ce-awpsversion: 1.0\r\n"
        )
        """The rest of the request line, and the headers that all requests have."""
        self.hub = settings.azure_hub
        self.is_per_connection = True
        self.subprotocols = settings.subprotocols
        # As Azure does with the parameters in the URL of a handler.
        asked = f"OPTIONS {self._target.replace('{id}', 'validate')}{self.head}\r\n".encode()
        self.preflight = PreflightPool(inner._pool, asked, origin, self.timeout)  # noqa: SLF001 - see `WebhookWrapper`
        self._pool = self.preflight

    def for_connection(self, subject: Subject) -> Webhook:  # noqa: ARG002 - its requests have it
        """Return the webhook for the events of one connection."""
        return AzureConnection(self)

    def claims(self, subject: Subject) -> dict[str, Any]:
        """Return the claims of the client's token, none without a token that is signed with an access key.

        Whether it had expired was checked when the client came.
        """
        keys = self.access_keys
        return {} if keys is None else keys.read(bearer_token(subject.authorization)) or {}

    def signature(self, connection_id: str) -> str:
        """Return the line by which a handler can verify that a request is from this gateway, empty without keys."""
        if self.access_keys is None:
            return ""
        signed = ",".join([f"sha256={each}" for each in self.access_keys.sign(connection_id.encode())])
        return f"ce-signature: {signed}\r\n"


class AzureConnection(WebhookWrapper):
    """Sends the events of one connection. After a crash, what its token says is all that is known of it."""

    def __init__(self, node: AzureWebhook) -> None:
        """Know nothing of the client yet. `node`: has what all connections share."""
        super().__init__(node)
        self._groups: list[str] = []
        self._has_ended = False
        self._hub = ""
        self._node = node
        self._subprotocol: str | None = None
        self._subject: Subject | None = None
        self._user_id: str | None = None

    def call(self, delivery: Delivery, event: Event, is_direct: bool = False) -> None:  # noqa: ARG002 - see below
        """Send `event`. Each answer has to be judged, as its body is for the client."""
        super().call(delivery, event)

    def request(self, subject: Subject, event: Event) -> bytes:
        """Return the request for `event`, and keep what it tells."""
        if isinstance(event, Opened):
            self._learn(subject, event)
        elif isinstance(event, Closed):
            self._has_ended = True
        return self.compose(subject, event, f"{subject.id}:{event.number}")

    def compose(self, subject: Subject, event: Event, event_id: str, more: str = "") -> bytes:
        """Return the request for `event` with another `ce-id`, and with `more` header lines."""
        content, body = self.content(subject, event, event_id)
        if subject.trace is not None:
            more += subject.trace.headers(event.number)
        return self._serialize(subject, NAMES[type(event)], event_id, event.at, f"{more}{content}", body)

    def content(self, subject: Subject, event: Event, event_id: str) -> tuple[str, bytes]:  # noqa: ARG002 - see below
        """Return the body of the request for `event`, and the lines before it. The id is in neither."""
        if isinstance(event, Message):
            return self._text if event.text else BINARY, event.data
        if isinstance(event, Opened):
            return _JSON, connect_json(event, self._node.claims(subject))
        return _JSON, disconnect_json(read_disconnect(event).reason)

    def judge(self, event: Event, outcome: Outcome) -> Verdict:
        """Return the verdict on `event`; log a response that is not a success."""
        if not isinstance(event, Opened):
            return Webhook.judge(self, event, outcome)
        if not self._node.preflight.is_allowed:
            # The connect event was not sent, and the reason is logged.
            if isinstance(outcome, Response):
                return Rejected(errors.BadGateway("The backend does not allow events of this gateway."), False)
            verdict = judge_opened(outcome)
            return Rejected(verdict.error, False) if isinstance(verdict, Rejected) else verdict
        decision = self._judge_connect(event, outcome)
        if isinstance(decision, Accepted):
            # After the 101: the caller sends it as soon as this returns.
            self._pool.clock.call_later(0.0, self._send_connected)
        elif isinstance(outcome, Response):
            self._log(Opened, outcome, decision)
        return decision

    def _judge_connect(self, opened: Opened, outcome: Outcome) -> Accepted | Rejected:
        if not isinstance(outcome, Response) or outcome.status // 100 != _SUCCESS:
            return judge_opened(outcome)
        found = read_connect(outcome)
        if isinstance(found, Rejected):
            return found
        self._user_id = found.user_id or self._user_id
        try:
            self._subprotocol = select_subprotocol(found.subprotocol, opened.subprotocols, self._node.subprotocols)
        except ValueError:
            # The client is refused.
            self._subprotocol = None
        return accepted(found, self._hub, self._user_id, [*self._groups, *found.groups])

    def _judge_message(self, outcome: Outcome) -> Verdict:
        if not isinstance(outcome, Response) or outcome.status // 100 != _SUCCESS:
            return super()._judge_message(outcome)
        try:
            actions = read_answer(outcome)
        except InvalidAnswer as error:
            # The backend acknowledged the message, so it is not sent again.
            return Undeliverable(str(error), Reason.UNDELIVERED)
        return DELIVERED if actions is None else Delivered(actions)

    def _judge_closed(self, outcome: Outcome) -> Verdict:
        """Return the verdict on a `disconnected` event. Azure does not wait for its answer, and may not send it at all.

        So handlers exist that do not know it, such as one in the samples of Azure: it answers 400.
        """
        verdict = super()._judge_closed(outcome)
        if not isinstance(verdict, Retry) or not isinstance(outcome, Response):
            return verdict
        if outcome.status // 100 != _REFUSED or outcome.status in _REPAIRABLE:
            return verdict
        why = f"the backend answered {outcome.status} to a disconnected event"
        fields = {"request": self._names[Closed], "why": why, "effect": "it is not sent again"}
        throttle.warning((Closed, outcome.status), FAILED, fields)
        return Delivered(failed=True)

    def _learn(self, subject: Subject, opened: Opened | None) -> None:
        """Keep what is known of the client. `opened`: None if its handshake is not known any more."""
        claims = self._node.claims(subject)
        user_id, named = claims.get("sub"), None
        if opened is not None:
            named = hub_in_path(opened.path, opened.query)
        else:
            named = next(filter(None, map(hub_in_url, audiences(claims))), None)
        self._hub = named if named is not None and is_hub(named) else self._node.hub
        self._groups = groups_in(claims)
        self._subject = subject
        self._user_id = user_id if isinstance(user_id, str) and user_id else None

    def _serialize(  # noqa: PLR0913, PLR0917 - the parts of a request
        self, subject: Subject, name: str, event_id: str, at: float, lines: str, body: bytes
    ) -> bytes:
        """Return the request for the event `name`. `lines`: more headers, up to the start of the `Content-Length`."""
        if not self._hub:
            self._learn(subject, None)
        node, connection_id = self._node, subject.id
        kind = "user" if name == NAMES[Message] else "sys"
        state = "" if subject.context is None else f"ce-connectionState: {subject.context}\r\n"
        user_id = "" if self._user_id is None else f"ce-userId: {header_value(self._user_id)}\r\n"
        subprotocol = "" if self._subprotocol is None else f"ce-subprotocol: {self._subprotocol}\r\n"
        head = (
            f"POST {self._target.replace('{id}', connection_id)}{node.head}ce-type: azure.webpubsub.{kind}.{name}\r\n"
            f"ce-source: /hubs/{self._hub}/client/{connection_id}\r\nce-id: {event_id}\r\nce-time: {rfc3339(at)}\r\n"
            f"ce-hub: {self._hub}\r\nce-connectionId: {connection_id}\r\nce-eventName: {name}\r\n"
            f"{user_id}{subprotocol}{state}{node.signature(connection_id)}{lines}{len(body)}\r\n"
        ).encode()
        if self.signer is not None:
            head += self.signer.lines(event_id.encode(), self._wall(), body)
        return head + b"\r\n" + body

    def _send_connected(self) -> None:
        """Send the event, unless the client was refused or has gone already."""
        subject = self._subject
        if subject is None or self._has_ended:
            return
        event_id = f"{subject.id}:{CONNECTED}"
        lines = _JSON if subject.trace is None else f"{subject.trace.headers(_CONNECTED_NUMBER)}{_JSON}"
        request = self._serialize(subject, CONNECTED, event_id, self._wall(), lines, b"{}")
        self._pool.send(ConnectedExchange(request, self.timeout))


class ConnectedExchange(Exchange):
    """The request that says that a client is connected."""

    __slots__ = ()

    def __init__(self, request: bytes, timeout: float) -> None:
        """Send `request` within `timeout` seconds, or not at all."""
        super().__init__(request, timeout, retried=False)

    @property
    def loss(self) -> str:
        """What a failure means."""
        return _NOT_REPEATED

    def answered(self, outcome: Outcome) -> None:
        """Log an answer that is not a success. The pool logs requests without an answer."""
        if isinstance(outcome, Response) and outcome.status // 100 != _SUCCESS:
            request = self.request.partition(b" HTTP/")[0].decode("latin-1").partition("?")[0]
            fields = {
                "request": f"{request} ({CONNECTED})",
                "why": f"the backend answered {outcome.status}",
                "effect": _NOT_REPEATED,
            }
            throttle.warning((CONNECTED, outcome.status), FAILED, fields)


def origin_of(name: PublicName) -> str:
    """Return the host and port of `WS_HOSTNAME`, without the default port."""
    host = f"[{name.host}]" if ":" in name.host else name.host
    default = 443 if name.text.startswith("https://") else 80
    return host if name.port == default else f"{host}:{name.port}"
