"""DELETEs, signatures, and pushes."""

import base64
import hashlib
import hmac
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.support.backend import Call
from tests.support.checked import run_check
from tests.support.ports import free_port
from tests.support.stage import Stage
from wsaas.check.context import Options

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


# DELETEs.


async def test_a_delete_that_fails_is_named(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["DELETE"] = lambda call: call.answer(500, "KeyError: 'ws_uri'")
    checked = await run_check(backend)
    assert checked.wrong() == [("WARN", "push"), ("FAIL", "DELETE"), ("FAIL", "DELETE of an unknown id")]
    assert checked.of("DELETE").message == (
        "the backend answered 500: \"KeyError: 'ws_uri'\": it would be sent again for API_RETRY times 10"
    )
    assert "if the body is missing there, a proxy or framework drops it" in checked.of("DELETE").advice
    assert checked.of("DELETE of an unknown id").advice.startswith("acknowledge it with 2xx, 404 or 410")


async def test_a_delete_without_an_answer_is_named(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["DELETE"] = lambda call: call.hang_up()
    checked = await run_check(backend)
    assert ("FAIL", "DELETE") in checked.wrong()
    assert (
        checked.of("DELETE").advice
        == "the backend's log may say why; if it speaks TLS, API_URI has to start with https://"
    )


@pytest.mark.parametrize("status", [200, 204, 404, 410])
async def test_a_delete_of_an_unknown_id_may_be_answered_with(stage: Stage, status: int) -> None:
    def answer(call: Call) -> None:
        call.answer(200 if backend.of(call.client)[0].method == "POST" else status)

    backend = await stage.backend.start()
    backend.on["DELETE"] = answer
    checked = await run_check(backend)
    assert checked.of("DELETE of an unknown id").line() == f"OK    DELETE of an unknown id: acknowledged with {status}"


async def test_a_connection_that_ends_after_a_delete_is_named(stage: Stage) -> None:
    def answer(call: Call) -> None:
        call.ok()
        call.connection.close()

    backend = await stage.backend.start()
    backend.on["DELETE"] = answer
    checked = await run_check(backend)
    assert checked.wrong() == [("WARN", "push"), ("WARN", "DELETE body")]


async def test_a_time_limit_ends_any_request(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["DELETE"] = lambda call: call.ok() if backend.of(call.client)[0].method == "POST" else None
    checked = await run_check(backend, Options(timeout=0.5))
    assert checked.wrong() == [("WARN", "push"), ("FAIL", "time")]


# Signatures.


def verifying(verify: Callable[[Call], bool]) -> Callable[[Call], None]:
    return lambda call: call.ok() if verify(call) else call.answer(401)


def verify_by_library(call: Call) -> bool:
    try:
        Webhook(SECRET).verify(call.body, call.headers, json_parse=False)
    except (WebhookVerificationError, UnicodeDecodeError):
        return call.body[:1] == b"\x00"  # this library cannot verify bytes that are not UTF-8
    return True


def verify_without_time(call: Call) -> bool:
    signed = b".".join((call.headers["webhook-id"].encode(), call.headers["webhook-timestamp"].encode(), call.body))
    digest = base64.b64encode(hmac.digest(b"0123456789abcdef0123456789abcdef", signed, hashlib.sha256)).decode()
    return call.headers["webhook-signature"] == f"v1,{digest}"


def verify_if_signed(call: Call) -> bool:
    return "webhook-signature" not in call.headers or verify_without_time(call)


def verify_only_connects(call: Call) -> bool:
    return call.method != "POST" or verify_if_signed(call)


@pytest.mark.parametrize(
    ("verify", "status", "message"),
    [
        (verify_by_library, "OK", "requests with a wrong, missing or old signature are refused"),
        (lambda _call: True, "FAIL", "the backend takes requests with a wrong signature (POST, PUT, DELETE)"),
        (verify_only_connects, "FAIL", "the backend takes requests with a wrong signature (PUT, DELETE)"),
        (verify_if_signed, "FAIL", "the backend takes requests without a signature"),
        (
            lambda call: "webhook-signature" in call.headers and verify_without_time(call),
            "WARN",
            "the backend takes a request that was signed 3600 s ago",
        ),
    ],
)
async def test_wrong_signatures_have_to_be_refused(
    stage: Stage, verify: Callable[[Call], bool], status: str, message: str
) -> None:
    backend = await stage.backend.start()
    backend.on = dict.fromkeys(backend.on, verifying(verify))
    checked = await run_check(backend, api_secret=SECRET)
    assert (checked.of("signature").status.value, checked.of("signature").message) == (status, message), checked
    # A client that was accepted wrongly gets its DELETE.
    for call in backend.calls:
        if call.method == "POST" and verify(call):
            assert backend.of(call.client)[-1].method == "DELETE"


async def test_without_a_secret_signatures_are_not_checked(stage: Stage) -> None:
    backend = await stage.backend.start()
    checked = await run_check(backend)
    assert "signature" not in [each.check for each in checked.findings]


# Pushes.


def pushing(path: str = "", *, chunked: bool = False) -> Callable[[Call], Awaitable[None]]:
    """Return a policy that pushes before it answers. `path`: replaces that of the `ws_uri`."""

    async def push(call: Call) -> None:
        url = f"http://{call.ws_uri}" if not path else f"http://{call.ws_uri.partition('/')[0]}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.put(url, data=b"hi", chunked=True if chunked else None) as response,
        ):
            await response.read()
        call.ok()

    return push


async def test_a_push_that_arrives_is_named(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["POST"] = pushing()
    checked = await run_check(backend)
    assert checked.wrong() == []
    assert checked.of("push").message.startswith("the backend reaches 127.0.0.1:")
    assert checked.of("push").message.endswith(": 1 request was carried out")


@pytest.mark.parametrize(
    ("path", "chosen", "status", "advice"),
    [
        ("chunked", {"control_token": "t0ken"}, 401, "send Authorization: Bearer with the CONTROL_TOKEN"),
        ("", {"control_token": "t0ken"}, 401, "send Authorization: Bearer with the CONTROL_TOKEN"),
        ("/nowhere", {}, 404, "use ws_uri as it is in the POST"),
        ("/" + "A" * 30, {}, 410, "use the ws_uri of this client"),
        ("/groups/%20", {}, 400, "send a body that is UTF-8 if it is text"),
    ],
)
async def test_a_push_that_is_refused_is_a_failure(
    stage: Stage, path: str, chosen: dict[str, Any], status: int, advice: str
) -> None:
    backend = await stage.backend.start()
    backend.on["POST"] = pushing(chunked=True) if path == "chunked" else pushing(path)
    found = (await run_check(backend, **chosen)).of("push")
    assert found.status.value == "FAIL"
    assert found.message.endswith(f"but its request was answered with {status}")
    assert found.advice.startswith(advice)


async def test_health_checks_are_no_pushes(stage: Stage) -> None:
    async def look(call: Call) -> None:
        async with aiohttp.ClientSession() as session:
            for path in ("healthz", "readyz"):
                async with session.get(f"http://{call.ws_uri.partition('/')[0]}/{path}") as response:
                    assert response.status == 200
        call.ok()

    backend = await stage.backend.start()
    backend.on["POST"] = look
    assert (await run_check(backend)).wrong() == [("WARN", "push")]


async def test_a_backend_that_never_pushes_is_told_how_to_take_part(stage: Stage) -> None:
    backend = await stage.backend.start()
    name = f"127.0.0.1:{free_port()}"
    found = (await run_check(backend, ws_hostname=name)).of("push")
    assert found.message == f"no request arrived at {name} within 0.05 s"
    assert "PUT something to ws_uri when request.headers of the POST has wsaas-check" in found.advice
    assert f"the check listens on {name}" in found.advice


async def test_an_address_in_use_is_named_and_everything_else_is_tried(stage: Stage) -> None:
    backend = await stage.backend.start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        checked = await run_check(backend, ws_hostname=address)
    assert checked.wrong() == [("WARN", "listener")]
    assert f"cannot listen on {address}" in checked.of("listener").message
    assert "stop the gateway that listens there" in checked.of("listener").advice
    assert checked.is_complete
