"""The session of a client whose heartbeats the gateway answers."""

from wsaas.events import Message
from wsaas.message_setting_types import Heartbeat
from wsaas.sessions.connection_info import ConnectionInfo
from wsaas.sessions.session import Services, Session
from wsaas.sessions.session_state import OPEN
from wsaas.websocket import frames
from wsaas.websocket.handshake import Handshake


class HeartbeatSession(Session):
    """Answers the text message `HEARTBEAT` without the backend. Without the setting, there is no such session.

    The answer does not wait for messages that are at the backend.
    """

    __slots__ = ("_heartbeat",)

    def __init__(self, services: Services, info: ConnectionInfo, handshake: Handshake, heartbeat: Heartbeat) -> None:
        """Represent the client that sent `handshake`. The caller calls `attach` next."""
        super().__init__(services, info, handshake)
        self._heartbeat = heartbeat

    def receive(self, message: Message) -> None:
        """Answer `message`, or deliver it after all earlier messages."""
        if message.data == self._heartbeat.ping and message.text:
            self._answer()
        else:
            super().receive(message)

    def is_answer(self, payload: bytes) -> bool:
        """Return whether a message to the client with `payload` may be the answer to a heartbeat."""
        return payload == self._heartbeat.pong

    def _answer(self) -> None:
        """Send the answer, unless a Close was sent, or more than `SEND_BUFFER` bytes would wait for the client."""
        if self.state is OPEN and self.send_frame(frames.encode(frames.TEXT, self._heartbeat.pong)):
            self._services.counters.heartbeats += 1
