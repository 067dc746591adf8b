"""The opening handshake of one client, from its request until the backend has decided about it."""

from typing import Final

from wsaas import errors
from wsaas.delivery.event_delivery import OutboxListener
from wsaas.delivery.verdicts import Accepted, Rejected
from wsaas.errors import RETRY_AFTER, HTTPError, RefusedWithClose
from wsaas.events import Opened
from wsaas.log import about
from wsaas.log.redaction import hide_secrets
from wsaas.log.throttle import throttle
from wsaas.reason import Reason
from wsaas.sessions.access_log import log_refused
from wsaas.sessions.ports import ConnectionRecorder, FrameTransport, PendingClient
from wsaas.sessions.session import Services, Session
from wsaas.sessions.session_state import CONNECTING
from wsaas.sessions.watched_client import WatchedClient
from wsaas.websocket.handshake import Handshake, select_subprotocol

SWITCHING_PROTOCOLS: Final = 101


class OpeningHandshake(OutboxListener):
    """Asks the backend whether a client may connect, and answers the handshake accordingly.

    Until the backend has decided, it stands in for the connection of the session and keeps frames for the client until
    the 101. It is also the listener of the session's outbox.
    """

    __slots__ = ("_frames", "_handshake", "_pending_client", "_services", "_session")

    def __init__(
        self, services: Services, session: Session, handshake: Handshake, pending_client: PendingClient
    ) -> None:
        """Keep frames of `session` for `pending_client`, which sent `handshake`."""
        self._frames = bytearray()
        self._handshake = handshake
        self._pending_client = pending_client
        self._services = services
        self._session = session

    def start(self) -> None:
        """Send the POST as soon as the journal has the connection."""
        session = self._session
        session.attach(self)
        session.outbox.listener = self
        self._services.journal.add(session, self._journaled)

    # What the session calls (see `ports.RefusableConnection`). Nothing is read, so nothing is paused.

    @property
    def transport(self) -> FrameTransport:
        """This object."""
        return self

    def expect_close(self) -> None:
        """Do nothing: the client is refused instead."""

    def close_gracefully(self) -> None:
        """Do nothing: the client is refused instead."""

    def write(self, data: bytes, /) -> None:
        """Keep a frame for the client."""
        self._frames += data

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are kept."""
        return len(self._frames)

    def refuse(self, error: HTTPError) -> None:
        """Answer the handshake with `error`, and close."""
        services = self._services
        services.counters.count_handshake(error.status)
        if services.settings.access_log:
            log_refused(error, self._session.info, services.clock.now())
        self._pending_client.refuse(error)

    def watch(self, recorder: ConnectionRecorder) -> None:
        """Report to `recorder` how the handshake is answered, and let it watch the connection from the 101 on."""
        self._pending_client = WatchedClient(self._pending_client, recorder)

    def unwatch(self) -> None:
        """Report nothing any more."""
        if isinstance(self._pending_client, WatchedClient):
            self._pending_client = self._pending_client.client

    # What the journal and the outbox call.

    def _journaled(self, written: bool) -> None:
        """Send the POST, now that the connection is in the journal; refuse the client if it could not be written."""
        session = self._session
        if session.state is CONNECTING:
            if written:
                session.outbox.put(self._opened())
                return
            session.refuse(errors.Unavailable("This node cannot accept clients now.", RETRY_AFTER), Reason.REFUSED)
        if written:
            session.finish_without_disconnect()
        else:
            # The journal has no entry to delete. Do not queue another write while writing fails.
            session.finish()

    def decided(self, verdict: Accepted | Rejected) -> None:
        """Accept or refuse the client. If it was refused or is gone, queue the DELETE that the backend may need."""
        session = self._session
        session.outbox.listener = session
        if session.state is CONNECTING:
            rejected = self._accept(verdict) if isinstance(verdict, Accepted) else self._checked(verdict)
            if rejected is None:
                return
            session.refuse(rejected.error, Reason.REFUSED)
            verdict = rejected
        if isinstance(verdict, Accepted) or verdict.disconnect_owed:
            session.owe_disconnect(self._delay(verdict))
        else:
            session.finish_without_disconnect()

    def _opened(self) -> Opened:
        session, handshake = self._session, self._handshake
        info = session.info
        # By position, which is twice as fast as by name.
        return Opened(
            info.connected_at,
            info.id,
            info.ws_uri,
            round(self._services.settings.ws_timeout * 1000),
            info.remote_address,
            handshake.path,
            handshake.query,
            handshake.headers,
            handshake.subprotocols,
        )

    def _accept(self, verdict: Accepted) -> Rejected | None:
        """Send the 101 and the kept frames; return the refusal if the client did not offer the subprotocol."""
        session, services = self._session, self._services
        try:
            subprotocol = select_subprotocol(
                verdict.subprotocol, self._handshake.subprotocols, services.settings.subprotocols
            )
        except ValueError:
            return _not_offered(session.ws_uri, verdict.subprotocol)
        try:
            for name in verdict.groups:
                services.groups.join(session, name)
        except errors.TooManyGroups as error:
            return _too_many_groups(session.ws_uri, error)
        session.open(subprotocol)
        services.counters.count_handshake(SWITCHING_PROTOCOLS)
        if verdict.context is not None:
            session.info.context = verdict.context
            services.journal.set_context(session.id, verdict.context)
        connection = self._pending_client.accept(subprotocol, bytes(self._frames))
        session.attach(connection)
        connection.start()
        return None

    def _checked(self, verdict: Rejected) -> Rejected:
        """Return `verdict`, or another if it is a Close with a subprotocol that the client did not offer."""
        error = verdict.error
        if isinstance(error, RefusedWithClose) and error.subprotocol not in {None, *self._handshake.subprotocols}:
            return _not_offered(self._session.ws_uri, error.subprotocol, disconnect_owed=False)
        return verdict

    def _delay(self, verdict: Accepted | Rejected) -> float:
        """Return the seconds before the DELETE: it must not overtake a POST that the backend may still be handling."""
        is_unanswered = isinstance(verdict, Rejected) and isinstance(verdict.error, errors.GatewayTimeout)
        services = self._services
        return services.settings.api_timeout if is_unanswered and services.listener.is_open else 0.0


def _not_offered(ws_uri: str, subprotocol: str | None, *, disconnect_owed: bool = True) -> Rejected:
    """Log and return the refusal of a client that did not offer the `subprotocol` that the backend chose."""
    message = "%(ws_uri)s: the backend chose the subprotocol %(chosen).100r, which was not offered; %(effect)s"
    chosen = hide_secrets(subprotocol or "")
    throttle.warning("subprotocol", message, about(ws_uri, chosen=chosen, effect="a client was refused with 502"))
    error = errors.BadGateway("The backend chose a subprotocol that was not offered.")
    return Rejected(error, disconnect_owed=disconnect_owed)


def _too_many_groups(ws_uri: str, error: errors.TooManyGroups) -> Rejected:
    """Return the refusal of a client that the backend put into more groups than `MAX_GROUPS`; log it."""
    message = "%(ws_uri)s: the backend answered with more groups than MAX_GROUPS; a client was refused with 502"
    throttle.warning("groups", message, about(ws_uri))
    return Rejected(errors.BadGateway(error.message), disconnect_owed=True)
