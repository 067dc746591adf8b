"""Both clients, over a transport that answers at once; tests/integration/test_backend.py has real gateways."""

import asyncio
import inspect
import json
import random
import ssl
import sys
import time
from functools import partial

import anyio
import httpx2
import pytest

from tests.support.backend_requests import ID, WS_URI
from wsaas import backend
from wsaas.backend import AsyncClient, Client, Gone, Incomplete, SlowClient, Unavailable, Unknown, sending

OK = {"code": "OK"}
INFO = {
    "id": ID,
    "ws_uri": WS_URI,
    "state": "open",
    "connected_at": "2026-01-31T12:00:00.123Z",
    "last_seen_at": "2026-01-31T12:00:00.123Z",
    "remote_address": "",
    "path": "/",
    "query": "",
    "subprotocol": None,
    "context": None,
    "groups": ["lobby"],
    "messages_in": 1,
    "messages_out": 2,
    "bytes_in": 3,
    "bytes_out": 4,
    "inbox": 5,
    "buffered": 6,
    "new": "of a later version",
}


class Gateway:
    """Gives `answers` one after the other: a status and JSON, or an error of the transport."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, content, *headers = answer
        return httpx2.Response(status, json=content, headers=dict(headers))


def call_blocking(gateway, name, *arguments, **options):
    with Client("localhost:8080", transport=httpx2.MockTransport(gateway), **options) as client:
        found = getattr(client, name)(*arguments)
        return list(found) if inspect.isgenerator(found) else found


def call_async(gateway, name, *arguments, **options):
    async def call():
        async with AsyncClient("localhost:8080", transport=httpx2.MockTransport(gateway), **options) as client:
            found = getattr(client, name)(*arguments)
            return [each async for each in found] if inspect.isasyncgen(found) else await found

    return asyncio.run(call())


@pytest.fixture(params=[call_blocking, call_async], ids=["Client", "AsyncClient"])
def call(request):
    """Call a method of a client, which has a gateway for its requests."""
    return request.param


@pytest.fixture
def slept(monkeypatch):
    """The seconds that a client would have waited."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(anyio, "sleep", sleep)
    monkeypatch.setattr(random, "uniform", lambda _, longest: longest)
    return waits


@pytest.mark.parametrize(
    ("name", "arguments", "method", "path"),
    [
        ("push", (WS_URI, "hi"), "PUT", f"/{ID}"),
        ("disconnect", (WS_URI, 4000, "bye"), "DELETE", f"/{ID}"),
        ("join", (WS_URI, "lobby"), "PUT", f"/groups/lobby/connections/{ID}"),
        ("leave", (WS_URI, "lobby"), "DELETE", f"/groups/lobby/connections/{ID}"),
    ],
)
def test_a_request_about_a_client_has_no_result(call, name, arguments, method, path):
    gateway = Gateway((200, OK))
    assert call(gateway, name, *arguments) is None
    (request,) = gateway.requests
    assert (request.method, request.url.path) == (method, path)
    assert request.headers["user-agent"] == "wsaas-backend"


def test_information_is_a_value_and_what_is_new_in_it_is_ignored(call):
    found = call(Gateway((200, {**OK, **INFO})), "info", ID)
    assert (found.id, found.state, found.groups, found.buffered) == (ID, "open", ("lobby",), 6)
    assert found.connected_at.isoformat() == "2026-01-31T12:00:00.123000+00:00"
    assert (found.ended_at, found.code) == (None, None)


def test_a_client_exists_or_not(call):
    assert call(Gateway((200, OK)), "exists", ID) is True
    assert call(Gateway((410, {})), "exists", ID) is False


@pytest.mark.parametrize(("name", "arguments"), [("publish", ("lobby", "hi")), ("broadcast", ("hi",))])
def test_a_publish_says_who_did_not_get_it(call, name, arguments):
    answer = {"code": "PARTIAL", "sent": 7, "slow": [ID], "slow_count": 1, "missing": ["worker 2"]}
    found = call(Gateway((200, answer)), name, *arguments)
    assert (found.sent, found.slow, found.slow_count, found.missing) == (7, (ID,), 1, ("worker 2",))


@pytest.mark.parametrize(("name", "arguments"), [("send", ([ID], "hi")), ("send_batch", ([([ID], "hi")],))])
def test_a_message_to_several_clients_says_who_did_not_get_it(call, name, arguments):
    counts = {"sent": 1, "gone_count": 2, "slow_count": 3, "unreached_count": 4}
    gateway = Gateway((200, {**OK, **counts, "gone": ["a"], "slow": ["b"], "unreached": ["c"]}))
    found = call(gateway, name, *arguments)
    assert (found.sent, found.gone_count, found.slow_count, found.unreached_count) == (1, 2, 3, 4)
    assert (found.gone, found.slow, found.unreached) == (("a",), ("b",), ("c",))
    assert json.loads(gateway.requests[0].content) == {"to": [ID], "text": "hi"}


def test_closing_a_group_says_how_many_were_closed(call):
    found = call(Gateway((200, {**OK, "closed": 3, "missing": []})), "disconnect_group", "lobby")
    assert (found.closed, found.missing) == (3, ())


def test_a_page_has_the_total_and_the_place_of_the_next_one(call):
    ended = {"ended_at": "2026-01-31T12:00:01.000Z", "code": 4000, "reason": "bye", "undelivered": 1}
    gateway = Gateway((200, {**OK, "total": 5, "connections": [{**INFO, **ended}], "next": "a1", "missing": []}))
    page = call(gateway, "connections")
    assert (page.total, page.next, page.missing) == (5, "a1", ())
    (found,) = page.connections
    assert (found.code, found.reason, found.undelivered, found.ended_at.second) == (4000, "bye", 1, 1)
    members = call(Gateway((200, {**OK, "count": 5, "connections": [], "next": None, "missing": []})), "members", "a")
    assert (members.total, members.next) == (5, None)


def page(count, after, *missing):
    return 200, {**OK, "total": 3, "count": 3, "connections": [INFO] * count, "next": after, "missing": missing}


@pytest.mark.parametrize(("name", "arguments"), [("iter_connections", ()), ("iter_members", ("lobby",))])
def test_a_list_is_read_page_by_page(call, name, arguments):
    gateway = Gateway(page(2, "a1"), page(1, None))
    assert [each.id for each in call(gateway, name, *arguments)] == [ID] * 3
    assert [request.url.params.get("after") for request in gateway.requests] == [None, "a1"]


@pytest.mark.parametrize(("name", "arguments"), [("iter_connections", ()), ("iter_members", ("lobby",))])
def test_a_list_that_is_not_complete_does_not_look_like_one_that_is(call, name, arguments):
    gateway = Gateway(page(2, "a1", "worker 2"), page(1, None, "worker 2", "worker 3"))
    with pytest.raises(Incomplete, match="no answer from worker 2, worker 3") as raised:
        call(gateway, name, *arguments)
    assert raised.value.missing == ("worker 2", "worker 3")
    assert len(gateway.requests) == 2


def test_errors_are_raised_with_what_the_answer_says(call):
    refusal = 429, {"code": "SLOW_CLIENT", "message": "The client does not read."}, ("Retry-After", "1")
    with pytest.raises(SlowClient, match="does not read") as raised:
        call(Gateway(refusal), "push", ID, "hi", retries=9)
    assert raised.value.retry_after == 1.0
    with pytest.raises(Gone):
        call(Gateway((410, {"code": "GONE"})), "push", ID, "hi", retries=9)


@pytest.mark.parametrize(
    "error", [httpx2.ConnectError("refused"), httpx2.ConnectTimeout(""), httpx2.PoolTimeout(""), httpx2.ProxyError("")]
)
def test_what_was_not_sent_is_unavailable(call, error):
    with pytest.raises(Unavailable, match=rf"PUT http://localhost:8080/{ID} was not sent: {type(error).__name__}"):
        call(Gateway(error), "push", ID, "hi")


UNANSWERED = [
    httpx2.ReadTimeout(""),
    httpx2.WriteTimeout(""),
    httpx2.ReadError("reset"),
    httpx2.WriteError(""),
    httpx2.RemoteProtocolError("Server disconnected"),
    ssl.SSLError("certificate required"),
]


@pytest.mark.parametrize("error", UNANSWERED)
def test_a_push_whose_fate_is_unknown_is_never_sent_again(call, slept, error):
    gateway = Gateway(error)
    with pytest.raises(Unknown, match="may have been carried out, but was not answered"):
        call(gateway, "push", ID, "hi", retries=9)
    assert len(gateway.requests) == 1
    gateway = Gateway((504, {"code": "UNKNOWN", "message": "It may have been carried out."}))
    with pytest.raises(Unknown):
        call(gateway, "publish", "lobby", "hi", retries=9)
    assert slept == []


@pytest.mark.parametrize("error", [*UNANSWERED, (504, {"code": "UNKNOWN"}), (502, None)])
def test_a_request_that_only_reads_may_be_sent_again(call, slept, error):
    gateway = Gateway(error, (200, {**OK, **INFO}))
    assert call(gateway, "info", ID, retries=1).id == ID
    assert slept == [0.1]


def test_a_503_of_a_proxy_repeats_no_push(call, slept):
    gateway = Gateway((503, {"message": "upstream connect error"}), (200, OK))
    with pytest.raises(Unknown, match="upstream connect error"):
        call(gateway, "push", ID, "hi", retries=9)
    assert len(gateway.requests) == 1
    assert call(Gateway((503, None), (200, OK)), "exists", ID, retries=1) is True
    assert slept == [0.1]


def test_a_request_that_was_not_carried_out_is_sent_again_after_a_growing_delay(call, slept):
    unavailable = 503, {"code": "UNAVAILABLE"}, ("Retry-After", "1")
    gateway = Gateway(httpx2.ConnectError(""), httpx2.ConnectError(""), unavailable, (200, OK))
    call(gateway, "push", ID, "hi", retries=3)
    assert slept == [0.1, 0.2, 1.0]
    assert len({request.content for request in gateway.requests}) == 1


def test_retries_end(call, slept):
    gateway = Gateway(*[httpx2.ConnectError("")] * 3)
    with pytest.raises(Unavailable):
        call(gateway, "push", ID, "hi", retries=2)
    assert len(gateway.requests) == 3
    assert len(slept) == 2


def test_no_request_waits_for_a_gateway_that_asks_for_a_long_time(call, slept):
    gateway = Gateway((503, {"code": "UNAVAILABLE"}, ("Retry-After", "3600")))
    with pytest.raises(Unavailable):
        call(gateway, "push", ID, "hi", retries=9)
    assert slept == []


def test_delays_stop_growing():
    assert max(sending.retry_delay(30, Unavailable("")) for _ in range(99)) <= sending.MAX_DELAY_S


def test_both_clients_have_the_same_methods_and_parameters():
    def methods(kind):
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: [*inspect.signature(each).parameters.items()] for name, each in found if name[0] != "_"}

    assert methods(Client).pop("close") == methods(AsyncClient).pop("aclose")
    shared = methods(Client).keys() - {"close"}
    assert shared == methods(AsyncClient).keys() - {"aclose"}
    for name in shared:
        assert methods(Client)[name] == methods(AsyncClient)[name], name
    assert str(inspect.signature(Client)) == str(inspect.signature(AsyncClient))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_misspelt_option_is_not_ignored(kind):
    with pytest.raises(TypeError, match="there is no option 'tiemout': expected one of timeout, limits"):
        kind("localhost:8080", tiemout=3)


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_without_the_extra_the_error_says_what_to_install(monkeypatch, name):
    for module in ("client", "async_client", "sending"):
        monkeypatch.delitem(sys.modules, f"wsaas.backend.{module}")
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ModuleNotFoundError, match=rf"{name} needs an HTTP library: pip install 'wsaas\[backend\]'"):
        getattr(backend, name)


def test_other_names_are_not_in_the_package():
    with pytest.raises(AttributeError, match="has no attribute 'Server'"):
        partial(getattr, backend, "Server")()
