"""The webhook of `EVENT_FORMAT=aws`: posts the events of WebSocket APIs of AWS API Gateway to a Lambda function.

As in API Gateway, an event is not sent again after the function has failed. A request that did not reach the function
is: what carries it fails as in the native format.
"""

from typing import Final

import orjson

from wsaas import errors
from wsaas.delivery.connect_answer import PASSED_ON
from wsaas.delivery.failure_report import FAILED
from wsaas.delivery.message_answer import MAX_CONTEXT, valid_context
from wsaas.delivery.pool import Outcome
from wsaas.delivery.verdicts import DELIVERED, Accepted, Actions, Delivered, Rejected, Verdict
from wsaas.delivery.webhook import JSON, Delivery, Subject, Webhook
from wsaas.delivery.webhook_wrapper import WebhookWrapper
from wsaas.event_formats.aws_answers import FunctionAnswer, FunctionError, read_answer, read_reply
from wsaas.event_formats.aws_events import UNKNOWN_CLIENT, client_of, event_json
from wsaas.events import Closed, Event, Message, Opened
from wsaas.http.response import Response
from wsaas.log.throttle import throttle
from wsaas.settings import Settings

_SUCCESS: Final = 2
_SERVER_ERROR: Final = 500
_REFUSALS: Final[dict[int, type[errors.HTTPError]]] = {**PASSED_ON, 400: errors.BadRequest}
"""How clients are refused, by the status of the function. The examples of AWS refuse a subprotocol with 400."""

_SUBPROTOCOL: Final = "sec-websocket-protocol"
_CONTEXT: Final = "ws-context"
_UNUSABLE_CONTEXT: Final = f"answered with a Ws-Context that is not at most {MAX_CONTEXT} printable ASCII characters"
_NOT_REPEATED: Final = "the event is not sent again"
_PASSED_HEADERS: Final = ("www-authenticate", "retry-after")


class AwsWebhook(WebhookWrapper):
    """Has a webhook for each connection, which knows what its events have to say about the client."""

    def __init__(self, inner: Webhook, settings: Settings) -> None:
        """Send as `inner` does, in another format."""
        super().__init__(inner)
        self.is_per_connection = True
        self.max_reply = settings.max_message_size
        self.replies = settings.aws_route_responses
        self.selection = settings.aws_route_selection

    def for_connection(self, subject: Subject) -> Webhook:
        """Return the webhook for the events of one connection."""
        return AwsConnection(self.inner, self, subject.id)


class AwsConnection(WebhookWrapper):
    """Sends the events of one connection."""

    def __init__(self, inner: Webhook, node: AwsWebhook, connection_id: str) -> None:
        """Know nothing of the client yet: after a crash, its handshake is not known. `node`: has the settings."""
        super().__init__(inner)
        self._client = UNKNOWN_CLIENT
        self._id = connection_id
        self._node = node

    def call(self, delivery: Delivery, event: Event, is_direct: bool = False) -> None:  # noqa: ARG002 - see below
        """Send `event`. Each answer has to be judged: its status does not say whether the function failed."""
        super().call(delivery, event)

    def request(self, subject: Subject, event: Event) -> bytes:
        """Return the request for `event`, and keep what the handshake tells."""
        if isinstance(event, Opened):
            self._client = client_of(event)
        return self.compose(subject, event, f"{subject.id}:{event.number}")

    def compose(self, subject: Subject, event: Event, event_id: str, more: str = "") -> bytes:
        """Return a request with the headers of the native format."""
        return Webhook.compose(self, subject, event, event_id, more)

    def content(self, subject: Subject, event: Event, event_id: str) -> tuple[str, bytes]:
        """Return the event as JSON."""
        return JSON, event_json(subject, event, event_id, self._client, self._node.selection)

    def user_agent(self) -> str:
        """Return what the handshake told."""
        return self._client.agent or ""

    def judge(self, event: Event, outcome: Outcome) -> Verdict:
        """Return the verdict on `event`; log that the function failed, or refused a client."""
        if not isinstance(outcome, Response) or outcome.status // 100 != _SUCCESS:
            return self.inner.judge(event, outcome)
        try:
            answer = read_answer(outcome)
            if isinstance(event, Message):
                return self._message_verdict(answer)
            return self._connect_verdict(answer) if isinstance(event, Opened) else self._disconnect_verdict(answer)
        except FunctionError as error:
            return self._failed(event, str(error))

    def _connect_verdict(self, answer: FunctionAnswer) -> Verdict:
        if answer.status // 100 != _SUCCESS:
            return self._refused(answer)
        context = answer.headers.get(_CONTEXT)
        if context is not None and not valid_context(context):
            raise FunctionError(_UNUSABLE_CONTEXT)
        return Accepted(answer.headers.get(_SUBPROTOCOL), context)

    def _refused(self, answer: FunctionAnswer) -> Verdict:
        make, message = _REFUSALS.get(answer.status), "The backend refused the connection."
        headers = [(name.title(), answer.headers[name]) for name in _PASSED_HEADERS if name in answer.headers]
        is_usable = make is not None and all(map(valid_context, dict(headers).values()))
        error = make(message, *headers) if make is not None and is_usable else errors.BadGateway(message)
        why, effect = _said(answer), f"a client was refused with {error.answer}"
        self._log_function(Opened, why, effect, is_expected=is_usable)
        return Rejected(error, disconnect_owed=False)

    def _message_verdict(self, answer: FunctionAnswer) -> Verdict:
        reply = read_reply(answer, self._node.max_reply) if self._node.replies else None
        failed = self._has_failed(Message, answer)
        return Delivered(None if reply is None else Actions(reply=reply), failed) if reply or failed else DELIVERED

    def _disconnect_verdict(self, answer: FunctionAnswer) -> Verdict:
        return Delivered(failed=True) if self._has_failed(Closed, answer) else DELIVERED

    def _has_failed(self, kind: type[Event], answer: FunctionAnswer) -> bool:
        """Return whether the function says itself that it failed, and log it. API Gateway makes no difference then."""
        if answer.status < _SERVER_ERROR:
            return False
        self._log_function(kind, _said(answer), _NOT_REPEATED)
        return True

    def _failed(self, event: Event, why: str) -> Verdict:
        """Return the verdict on an event whose function failed, or whose answer cannot be used. `why`: for the log."""
        if isinstance(event, Opened):
            self._log_function(Opened, why, "a client was refused with 502")
            # It may have noted that the client is connected.
            error = errors.BadGateway("The function failed.")
            return Rejected(error, disconnect_owed=True, unusable=f"a function that {why}")
        if isinstance(event, Closed):
            self._log_function(Closed, why, _NOT_REPEATED)
            return Delivered(failed=True)
        self._log_function(Message, why, "the client was sent an error")
        said = {"message": "Internal server error", "connectionId": self._id, "requestId": f"{self._id}:{event.number}"}
        return Delivered(Actions(reply=Message(text=True, data=orjson.dumps(said))), failed=True)

    def _log_function(self, kind: type[Event], why: str, effect: str, *, is_expected: bool = False) -> None:
        fields = {"request": self._names[kind], "why": f"the function {why}", "effect": effect}
        # The message of an exception may be different each time.
        (throttle.info if is_expected else throttle.warning)((kind, why.partition(":")[0]), FAILED, fields)


def _said(answer: FunctionAnswer) -> str:
    return f"answered with the statusCode {answer.status}"
