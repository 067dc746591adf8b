import asyncio
import socket
import threading

import pytest

from wsaas.transport.resolver import Resolver

HERE = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]


class FakeSystem:
    """Replaces `getaddrinfo`. It returns or raises `result` when it is `released`."""

    def __init__(self, result):
        self.result = result
        self.released = threading.Event()
        self.calls = []

    def __call__(self, host, port, **_more):
        self.calls.append((host, port))
        assert self.released.wait(10)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def system(monkeypatch):
    fake = FakeSystem(HERE)
    monkeypatch.setattr(socket, "getaddrinfo", fake)
    yield fake
    fake.released.set()


def resolving(count=1, host="backend.test"):
    """Start `count` lookups of one name; return the resolver and their tasks."""
    resolver = Resolver(asyncio.get_running_loop(), host, 80)
    return resolver, [asyncio.ensure_future(resolver.resolve()) for _ in range(count)]


def resolver_threads():
    return [thread for thread in threading.enumerate() if thread.name == "wsaas-resolver"]


def test_an_ip_address_needs_no_thread(system):
    async def resolve():
        system.released.set()
        _, (task,) = resolving(host="fe80::1%eth0")
        assert await task == HERE
        assert threading.get_ident() == threading.main_thread().ident

    before = threading.active_count()
    asyncio.run(resolve())
    assert threading.active_count() == before
    assert system.calls == [("fe80::1%eth0", 80)]


def test_all_callers_share_one_lookup(system):
    async def resolve():
        _, tasks = resolving(100)
        await asyncio.sleep(0)
        assert len(resolver_threads()) == 1
        system.released.set()
        assert await asyncio.gather(*tasks) == [HERE] * 100

    asyncio.run(resolve())
    assert len(system.calls) == 1


def test_each_lookup_asks_again(system):
    async def resolve():
        system.released.set()
        resolver, (task,) = resolving()
        await task
        system.result = []
        assert await resolver.resolve() == []

    asyncio.run(resolve())
    assert len(system.calls) == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name does not resolve: backend.test"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "no DNS server answers for backend.test"),
        (socket.gaierror(socket.EAI_FAIL, "Gone wrong"), "name does not resolve: backend.test (Gone wrong)"),
        (OSError("no memory"), "name does not resolve: backend.test (no memory)"),
        (UnicodeError("label too long"), "name does not resolve: backend.test (label too long)"),
    ],
)
def test_an_error_names_the_host(system, error, text):
    async def resolve():
        system.released.set()
        _, tasks = resolving(2)
        return await asyncio.gather(*tasks, return_exceptions=True)

    system.result = error
    first, second = asyncio.run(resolve())
    assert (str(first), str(second)) == (text, text)
    assert type(first) is socket.gaierror
    # An exception that is raised twice would collect both tracebacks.
    assert first is not second


def test_a_caller_that_gives_up_leaves_the_lookup_to_the_next(system):
    async def resolve():
        resolver, (task,) = resolving()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        following = asyncio.ensure_future(resolver.resolve())
        leaving = asyncio.ensure_future(resolver.resolve())
        await asyncio.sleep(0)
        leaving.cancel()
        system.released.set()
        assert await following == HERE

    asyncio.run(resolve())
    assert len(system.calls) == 1


@pytest.mark.usefixtures("system")
def test_a_result_for_a_caller_that_was_cancelled_in_the_same_turn_is_dropped():
    async def resolve():
        resolver, (task,) = resolving()
        await asyncio.sleep(0)
        task.cancel()
        resolver._resolved(HERE)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(resolve())


def test_a_lookup_may_end_after_the_loop_was_closed(system):
    async def begin():
        _, (task,) = resolving()
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(begin())
    (thread,) = resolver_threads()
    assert thread.daemon
    system.released.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_thread_that_cannot_be_started_fails_this_lookup_only(system, monkeypatch):
    async def resolve():
        system.released.set()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", lambda _thread: (_ for _ in ()).throw(RuntimeError("no thread")))
            resolver, (task,) = resolving()
            with pytest.raises(RuntimeError, match="no thread"):
                await task
        assert await resolver.resolve() == HERE

    asyncio.run(resolve())
