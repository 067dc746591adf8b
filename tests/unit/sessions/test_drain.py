"""Tests of what a drain gives up, with fake sessions."""

import asyncio
import logging
from typing import cast

import pytest

from tests.support.stage import Stage
from wsaas.clock import Clock
from wsaas.sessions import drain
from wsaas.sessions.drain import Drain
from wsaas.sessions.registry import Registry
from wsaas.sessions.session_state import State


class FakeSession:
    """A live or disconnected session. Its `unread` messages are counted after `abandon`."""

    def __init__(self, state: State, unread: int = 0, turns: int = 0) -> None:
        self.state = state
        self.ws_uri = "node/id"
        self.discards_messages = False
        self.messages_undelivered = 0
        self.info = self
        self.connection = self
        self.calls: list[str] = []
        self._turns = turns
        self._unread = unread

    def abandon(self) -> None:
        self.calls.append("abandon")
        asyncio.get_running_loop().call_soon(self._read)

    def close_gracefully(self) -> None:
        self.calls.append("close_gracefully")
        self.state = State.DISCONNECTED

    def _read(self) -> None:
        if self._turns:
            self._turns -= 1
            asyncio.get_running_loop().call_later(0.005, self._read)
            return
        self.messages_undelivered += self._unread
        if self.state is State.DISCONNECTED:
            self.state = State.CLOSED


class FakeRegistry:
    def __init__(self, *sessions: FakeSession) -> None:
        self.sessions = sessions

    def live(self) -> list[FakeSession]:
        return [each for each in self.sessions if each.state in (State.OPEN, State.CLOSING)]

    def ending(self) -> list[FakeSession]:
        return [each for each in self.sessions if each.state in (State.DISCONNECTED, State.CLOSED)]


def make_drain(*sessions: FakeSession) -> Drain:
    clock = Clock(asyncio.get_running_loop())
    registry = FakeRegistry(*sessions)
    made = Drain(cast(Registry, registry), clock, 1.0, asyncio.Event())
    if not registry.live():
        made._no_clients.set()
    return made


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "COUNTING_S", 0.2)


async def test_unread_frames_are_counted_over_many_turns(stage: Stage) -> None:
    stage.expected_errors = ["(3 messages lost)"]
    session = FakeSession(State.DISCONNECTED, unread=3, turns=5)
    assert not await make_drain(session).give_up(left_to="the next start")
    assert session.state is State.CLOSED
    assert "stopping: 3 messages of 1 connection not delivered" in stage.messages()


async def test_a_client_that_never_answers_its_close_is_closed_after_the_counting_time(stage: Stage) -> None:
    stage.expected_errors = ["(0 messages lost)"]
    session = FakeSession(State.CLOSING)
    assert not await make_drain(session).give_up(left_to="")
    assert session.calls == ["abandon", "close_gracefully"]


async def test_counting_unread_frames_ends_after_the_counting_time(stage: Stage) -> None:
    session = FakeSession(State.DISCONNECTED, unread=3, turns=10_000)
    assert await asyncio.wait_for(make_drain(session).give_up(left_to="the next start"), 5)
    assert stage.messages(logging.WARNING) == ["stopping: 1 DELETE is left for the next start"]


async def test_a_stop_that_delivered_everything_logs_nothing(stage: Stage) -> None:
    assert await make_drain().give_up(left_to="")
    assert not stage.messages()
