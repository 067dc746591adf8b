"""`wsaas check` against backends that are broken in one way each: it names what is wrong, and how to mend it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import Backend, Call, Policy, answer_after
from tests.support.broken_servers import django_with_csrf, without_delete_bodies
from tests.support.certificate_authority import CertificateAuthority
from tests.support.checked import run_check
from tests.support.demo import serving
from wsaas.check.context import Options
from wsaas.demo.server import DemoServer

Chosen = dict[str, Any]
Broken = Callable[[Path], AbstractAsyncContextManager[Chosen]]
"""Serves a broken backend; yields the settings for a check of it."""


def answers(*, on: dict[str, Policy], **chosen: Any) -> Broken:
    """Return a backend that is good but for `on`. It never pushes."""

    @asynccontextmanager
    async def serve(_folder: Path) -> AsyncIterator[Chosen]:
        backend = await Backend().start()
        backend.on |= on
        try:
            yield {"api_uri": f"{backend.authority}/hook", **chosen}
        finally:
            await backend.stop()

    return serve


def only_json(call: Call) -> None:
    """Answer as a body parser that takes nothing but JSON."""
    if call.headers["content-type"] == "application/json":
        call.ok()
    else:
        call.answer(415, "Unsupported Media Type")


def v1_if_any(call: Call) -> None:
    """Choose v1 if anything is offered."""
    if call.json["request"]["subprotocols"]:
        call.ok(subprotocol="v1")
    else:
        call.ok()


def closing(call: Call) -> None:
    """Answer, and close the connection."""
    call.answer(200, {"code": "OK"}, Connection="close")


@asynccontextmanager
async def csrf(_folder: Path) -> AsyncIterator[Chosen]:
    with django_with_csrf() as address:
        yield {"api_uri": f"{address}/hook"}


@asynccontextmanager
async def wrong_tls_name(folder: Path) -> AsyncIterator[Chosen]:
    authority = CertificateAuthority(folder)
    backend = await Backend(tls=authority.server("backend.example.com")).start()
    try:
        yield {"api_uri": f"https://localhost:{backend.port}/hook", "api_tls_ca": authority.path}
    finally:
        await backend.stop()


@asynccontextmanager
async def unread_delete_bodies(_folder: Path) -> AsyncIterator[Chosen]:
    async with without_delete_bodies() as address:
        yield {"api_uri": f"{address}/hook"}


def always(policy: Policy) -> dict[str, Policy]:
    return dict.fromkeys(("POST", "PUT", "DELETE"), policy)


NO_PUSH = ("WARN", "push")
BROKEN: dict[str, tuple[Broken, list[tuple[str, str]], str, str]] = {
    "wrong JSON": (
        answers(on={"POST": lambda call: call.answer(200, {"status": "success"})}),
        [("FAIL", "POST")],
        'a body that is not JSON such as {"code": "OK"}',
        'answer 2xx with a JSON object such as {"code": "OK"}',
    ),
    "301": (
        answers(on=always(lambda call: call.answer(301, Location="https://example.com/hook"))),
        [("FAIL", "POST")],
        "the backend answered 301",
        "API_URI has to name https://example.com/hook directly",
    ),
    "HTML": (
        answers(on=always(lambda call: call.answer(200, "<html><h1>It works!</h1></html>", Content_Type="text/html"))),
        [("FAIL", "POST")],
        'a body that is not JSON such as {"code": "OK"}: \'It works!\'',
        'answer 2xx with a JSON object such as {"code": "OK"}',
    ),
    "CSRF": (
        csrf,
        [("FAIL", "POST")],
        "CSRF verification failed",
        "exempt this path",
    ),
    "JSON-only body parser": (
        answers(on={"PUT": only_json}),
        [
            ("FAIL", "PUT text"),
            ("FAIL", "PUT JSON"),
            ("WARN", "PUT binary"),
            ("WARN", "PUT empty"),
            ("WARN", "PUT 1 MiB"),
            NO_PUSH,
        ],
        "the backend answered 415: 'Unsupported Media Type': the client would be closed with 1011",
        "text messages are sent as TEXT_CONTENT_TYPE, binary ones as application/octet-stream",
    ),
    "no keep-alive": (
        answers(on=always(closing)),
        [NO_PUSH, ("WARN", "keep-alive")],
        "the backend closed the connection after 11 of 11 answers",
        "answer in HTTP/1.1 with Content-Length and without Connection: close",
    ),
    "too slow": (
        answers(on=always(answer_after(0.5)), api_timeout=100),
        [("FAIL", "POST")],
        "the backend did not answer in time (0.1 s)",
        "answer sooner, or raise API_TIMEOUT",
    ),
    "slow": (
        answers(on={"PUT": answer_after(0.05)}, api_connections=8),
        [("WARN", "API_CONNECTIONS"), NO_PUSH],
        "100 messages per second need about 1",
        "set API_CONNECTIONS=1",
    ),
    "wrong TLS name": (
        wrong_tls_name,
        [("FAIL", "TLS")],
        "certificate is not valid for 'localhost'",
        "its certificate has to be valid for the host in API_URI",
    ),
    "drops the bodies of DELETEs": (
        unread_delete_bodies,
        [NO_PUSH, ("FAIL", "DELETE body")],
        "the next request on its connection failed: the backend answered 400",
        "read the body of a DELETE",
    ),
    "chooses a subprotocol that was not offered": (
        answers(on={"POST": lambda call: call.ok(subprotocol="graphql-ws")}),
        [("FAIL", "subprotocol")],
        "the backend chose 'graphql-ws', which the client did not offer",
        "answer one of request.subprotocols",
    ),
    "chooses a subprotocol when others are offered": (
        answers(on={"POST": v1_if_any}),
        [NO_PUSH, ("FAIL", "subprotocol")],
        "the backend chose 'v1', which the client did not offer",
        'or leave "subprotocol" out',
    ),
}


@pytest.mark.usefixtures("stage")
@pytest.mark.parametrize(("broken", "wrong", "message", "advice"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_backend_is_named_rightly(
    tmp_path: Path, broken: Broken, wrong: list[tuple[str, str]], message: str, advice: str
) -> None:
    async with broken(tmp_path) as chosen:
        checked = await run_check(**chosen)
    assert checked.wrong() == wrong, checked
    first = checked.of(next(name for status, name in wrong if (status, name) != NO_PUSH))
    assert message in first.message
    assert advice in first.advice


@pytest.mark.usefixtures("stage")
async def test_the_backend_of_the_demo_has_no_finding() -> None:
    server = DemoServer("127.0.0.1", 0, "localhost:8080")
    with serving(server):
        checked = await run_check(f"127.0.0.1:{server.server_port}/websocket", Options(path="/echo"))
        server.traffic.close()
    assert checked.is_complete
    assert checked.wrong() == [], checked
