"""What a node reports to systemd, with a fake node and a fake loop."""

import asyncio
from collections.abc import Callable

import pytest

from wsaas.systemd.notifier import Notifier
from wsaas.systemd.service import STATUS_INTERVAL_S, Limits, Service
from wsaas.systemd.unit import NO_UNIT, take_unit


class NotifierDouble(Notifier):
    """Keeps the reports, unless systemd has no room for them."""

    def __init__(self) -> None:
        super().__init__("/run/notify")
        self.has_room = True
        self.reports: list[dict[str, str | int]] = []

    def send(self, **fields: str | int) -> bool:
        if self.has_room:
            self.reports.append(fields)
        return self.has_room

    def take(self) -> dict[str, str | int]:
        (report,) = self.reports
        self.reports.clear()
        return report


class NodeDouble:
    """Stops and reloads when it is asked to. `done`: what its reloads have to call."""

    def __init__(self) -> None:
        self.alive = True
        self.done: list[Callable[[bool], object]] = []
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1

    def reload(self, done) -> None:
        self.done.append(done)

    def summary(self) -> str:
        return "2 clients"

    def is_alive(self) -> bool:
        return self.alive


class LoopDouble:
    """Has one timer. `delay`: when it expires."""

    def __init__(self) -> None:
        self.cancelled = False
        self.delay = 0.0

    def call_later(self, delay, callback):
        self.delay, self.expire = delay, callback
        return self

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def loop(monkeypatch):
    made = LoopDouble()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


@pytest.fixture
def node():
    return NodeDouble()


@pytest.fixture
def notifier():
    return NotifierDouble()


@pytest.fixture
def service(node, notifier):
    return Service(node, notifier, Limits(100.0, 40.0, 30.0))


def started(service, notifier):
    """Make `service` ready, and forget its report."""
    service.started()
    notifier.take()


@pytest.mark.usefixtures("loop")
def test_a_start_may_take_its_time_and_ends_with_ready(service, notifier):
    service.starting()
    assert notifier.take() == {"EXTEND_TIMEOUT_USEC": 100_000_000}
    service.started()
    assert notifier.take() == {"READY": 1, "STATUS": "2 clients"}


def test_the_watchdog_hears_from_the_loop_at_half_its_time(service, node, notifier, loop):
    service.started()
    notifier.take()
    assert loop.delay == 15.0
    for _ in range(2):
        loop.expire()
        assert notifier.take() == {"WATCHDOG": 1, "STATUS": "2 clients"}
    node.alive = False
    loop.expire()
    assert notifier.take() == {"STATUS": "2 clients"}
    node.alive = True
    loop.expire()
    assert notifier.take()["WATCHDOG"] == 1
    service.close()
    assert loop.cancelled
    assert not notifier.is_on


def test_without_a_watchdog_the_status_is_renewed(node, notifier, loop):
    Service(node, notifier, Limits(100.0, 40.0)).started()
    notifier.take()
    assert loop.delay == STATUS_INTERVAL_S
    loop.expire()
    assert notifier.take() == {"STATUS": "2 clients"}


@pytest.mark.parametrize("watchdog", [None, 30.0])
def test_a_change_that_systemd_has_no_room_for_is_reported_later(watchdog, node, notifier, loop):
    alive = {"WATCHDOG": 1} if watchdog else {}
    service = Service(node, notifier, Limits(100.0, 40.0, watchdog))
    notifier.has_room = False
    service.started()
    loop.expire()
    notifier.has_room = True
    loop.expire()
    assert notifier.take() == {"READY": 1, "STATUS": "2 clients", **alive}
    loop.expire()
    assert notifier.take() == {"STATUS": "2 clients", **alive}
    notifier.has_room = False
    service.stop()
    notifier.has_room = True
    loop.expire()
    stopping = {"STOPPING": 1, "EXTEND_TIMEOUT_USEC": 40_000_000}
    assert notifier.take() == {**stopping, "STATUS": "stopping: 2 clients", **alive}


def test_what_is_owed_does_not_end_a_reload(service, node, notifier, loop):
    notifier.has_room = False
    service.started()
    service.reload()
    notifier.has_room = True
    loop.expire()
    assert "READY" not in notifier.take()
    node.done[0](True)
    assert notifier.take()["READY"] == 1


def test_a_stop_says_how_long_it_may_take_and_the_watchdog_goes_on(service, node, notifier, loop):
    service.started()
    notifier.take()
    service.stop()
    assert notifier.take() == {
        "STOPPING": 1,
        "STATUS": "stopping: 2 clients",
        "EXTEND_TIMEOUT_USEC": 40_000_000,
    }
    service.stop()
    assert notifier.reports == []
    assert node.stops == 2
    loop.expire()
    assert notifier.take() == {"WATCHDOG": 1, "STATUS": "stopping: 2 clients"}


@pytest.mark.usefixtures("loop")
def test_a_node_that_stops_before_it_has_started_is_never_ready(service, notifier):
    service.stop()
    notifier.take()
    service.started()
    assert notifier.reports == []


@pytest.mark.usefixtures("loop")
def test_a_reload_begins_with_its_time_and_ends_with_ready(service, node, notifier, monkeypatch):
    started(service, notifier)
    monkeypatch.setattr("time.monotonic_ns", lambda: 5_000_999)
    service.reload()
    assert notifier.take() == {"RELOADING": 1, "MONOTONIC_USEC": 5000}
    node.done[0](True)
    assert notifier.take() == {"READY": 1, "STATUS": "2 clients"}


@pytest.mark.usefixtures("loop")
def test_the_status_says_that_a_reload_has_failed_until_one_succeeds(service, node, notifier):
    started(service, notifier)
    service.reload()
    node.done[0](False)
    assert notifier.reports.pop()["STATUS"] == "2 clients; a file could not be reloaded, see the log"
    service.reload()
    node.done[1](True)
    assert notifier.reports.pop()["STATUS"] == "2 clients"


@pytest.mark.usefixtures("loop")
def test_only_the_last_of_several_reloads_is_ready(service, node, notifier):
    started(service, notifier)
    service.reload()
    service.reload()
    notifier.reports.clear()
    node.done[0](True)
    assert notifier.reports == []
    node.done[1](True)
    assert notifier.take()["READY"] == 1


@pytest.mark.usefixtures("loop")
def test_a_reload_that_ends_after_the_stop_is_not_ready(service, node, notifier):
    started(service, notifier)
    service.reload()
    service.stop()
    notifier.reports.clear()
    node.done[0](True)
    assert notifier.reports == []
    service.reload()
    node.done[1](True)
    assert notifier.reports == []


@pytest.mark.usefixtures("loop")
def test_a_reload_does_not_end_the_start(service, node, notifier):
    service.reload()
    node.done[0](False)
    assert notifier.reports == []
    service.started()
    assert notifier.take() == {"READY": 1, "STATUS": "2 clients; a file could not be reloaded, see the log"}


@pytest.mark.usefixtures("loop")
def test_a_reload_that_began_before_the_node_was_ready_may_end_after_it(service, node, notifier):
    service.reload()
    service.started()
    notifier.take()
    node.done[0](True)
    assert notifier.take() == {"READY": 1, "STATUS": "2 clients"}


def test_without_systemd_a_node_works_and_reports_nothing(node, loop):
    service = NO_UNIT.service(node, 40.0)
    service.starting()
    service.started()
    assert loop.delay == 0.0
    service.reload()
    node.done[0](True)
    service.stop()
    assert node.stops == 1
    service.close()


def test_a_unit_has_all_that_systemd_has_passed():
    environment = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "4000000", "API_URI": "a/b"}
    unit = take_unit({}, environment)
    assert (unit.path, unit.watchdog) == ("@x", 4.0)
    assert not unit.activation.sockets
    assert environment == {"API_URI": "a/b"}
