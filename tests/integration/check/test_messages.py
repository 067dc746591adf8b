"""Messages of each kind, repeats, keep-alive, latency."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.backend import Call
from tests.support.checked import run_check
from tests.support.stage import Stage
from wsaas.check import capacity
from wsaas.check.context import Options
from wsaas.check.messages import BINARY_MESSAGE, JSON_MESSAGE


def echo(call: Call) -> None:
    """Reply with the message."""
    is_text = call.headers["content-type"].startswith("text/")
    call.answer(200, call.body, Ws_Reply="text" if is_text else "binary")


def refuse(is_refused: Callable[[Call], bool], status: int = 400, body: Any = "") -> Callable[[Call], None]:
    """Return a policy that answers some calls with `status`."""
    return lambda call: call.answer(status, body) if is_refused(call) else call.ok()


async def test_a_message_of_each_kind_is_sent(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["PUT"] = echo
    checked = await run_check(backend, Options(message="hi"))
    sent = [
        (call.headers["content-type"].partition(";")[0], call.body) for call in backend.calls if call.method == "PUT"
    ]
    assert sent[:5] == [
        ("text/plain", b"hi"),
        ("text/plain", JSON_MESSAGE),
        ("application/octet-stream", BINARY_MESSAGE),
        ("text/plain", b""),
        ("text/plain", b"x" * (1 << 20)),
    ]
    assert checked.wrong() == [("WARN", "push")]
    assert checked.of("PUT text").message.endswith(", with a reply of 2 bytes as text")
    assert checked.of("PUT binary").message.endswith(f", with a reply of {len(BINARY_MESSAGE)} bytes as binary")
    assert checked.of("Ws-Reply").message == "5 of 5 messages got a reply; a reply is optional"


async def test_one_byte_and_one_message_are_singular(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on |= {
        "POST": lambda call: call.ok(context="7"),
        "PUT": lambda call: call.answer(200, call.body, Ws_Reply="text") if len(call.body) == 1 else call.answer(409),
    }
    checked = await run_check(backend, Options(message="x", rate=1))
    assert checked.of("POST answer").message.startswith("has a context of 1 character, ")
    assert checked.of("PUT text").message.endswith(", with a reply of 1 byte as text")


async def test_the_largest_message_is_as_large_as_allowed(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["PUT"] = refuse(lambda call: len(call.body) == 100, 413)
    found = (await run_check(backend, max_message_size=100)).of("PUT 100 bytes")
    assert found.status.value == "WARN"
    assert found.message == "the backend answered 413: the client would be closed with 1009"
    assert found.advice.startswith("set MAX_MESSAGE_SIZE to what the backend takes")


@pytest.mark.parametrize(
    ("policy", "wrong", "message", "advice"),
    [
        (
            refuse(lambda call: not call.body.startswith(b"{"), 409),
            [("WARN", "PUT text"), ("WARN", "PUT binary"), ("WARN", "PUT empty"), ("WARN", "PUT 1 MiB")],
            "the backend answered 409: the client would be closed with 1011",
            "acknowledge with 2xx what the client may send",
        ),
        (
            refuse(lambda call: call.body.startswith(b"{"), 410),
            [("WARN", "PUT JSON")],
            "the backend answered 410: the client would be closed with 1000",
            "acknowledge with 2xx",
        ),
        (
            refuse(lambda call: len(call.body) < 1000 and b"\xff" not in call.body, 422),
            [("FAIL", "PUT text"), ("FAIL", "PUT JSON"), ("WARN", "PUT empty")],
            "the backend answered 422: the client would be closed with 1011",
            "the backend's log should say what it expects; read the raw body",
        ),
        (
            refuse(lambda call: bool(call.body) and b"\xff" not in call.body, 409),
            [("FAIL", "PUT text"), ("FAIL", "PUT JSON"), ("WARN", "PUT 1 MiB")],
            "the backend answered 409: the client would be closed with 1011",
            "read the raw body",
        ),
        (
            refuse(lambda call: not call.body, 409),
            [("WARN", "PUT empty")],
            "the backend answered 409",
            "accept a body of 0 bytes",
        ),
        (
            refuse(lambda call: b"\xff" in call.body, 500, "UnicodeDecodeError"),
            [("FAIL", "PUT binary")],
            "the backend answered 500: 'UnicodeDecodeError': the message would be sent again for API_RETRY",
            "see the log of the backend",
        ),
        (
            lambda call: call.answer(200, Ws_Reply="json") if not call.body else call.ok(),
            [("FAIL", "PUT empty")],
            "the backend's Ws-Reply is 'json', neither text nor binary: the client would be closed with 1011",
            "correct this header of the answer",
        ),
    ],
)
async def test_a_kind_of_message_that_is_not_taken_is_named(
    stage: Stage, policy: Callable[[Call], None], wrong: list[tuple[str, str]], message: str, advice: str
) -> None:
    backend = await stage.backend.start()
    backend.on["PUT"] = policy
    checked = await run_check(backend)
    # The repeated message may be refused like the first one.
    assert [each for each in checked.wrong() if each[1] != "push"] == wrong, checked
    first = checked.of(wrong[0][1])
    assert message in first.message
    assert advice in first.advice
    # A client ends after a message that is not taken, so there is a new one for the next kind.
    assert backend.count("POST") > len(wrong)
    assert checked.is_complete


async def test_a_client_that_the_backend_closes_is_replaced(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["PUT"] = lambda call: call.answer(200, Ws_Close="4000 bye")
    checked = await run_check(backend)
    assert checked.wrong() == [("WARN", "push")]
    # One for each message, for the DELETE at the end, and for the subprotocol.
    assert backend.count("POST") == backend.count("PUT") + 2
    assert backend.count("DELETE") == backend.count("POST") + 1


async def test_a_backend_that_accepts_only_the_first_client_is_named(stage: Stage) -> None:
    def once(call: Call) -> None:
        if backend.count("POST") > 1:
            call.answer(503)
        else:
            call.ok()

    backend = await stage.backend.start()
    backend.on |= {"POST": once, "PUT": lambda call: call.answer(500)}
    checked = await run_check(backend)
    assert checked.wrong() == [("FAIL", "PUT text"), ("FAIL", "POST")]
    assert checked.findings[-1].message == "a client was accepted before, and now the backend answered 503"


async def test_a_backend_that_ends_at_the_first_message_is_told_which_it_was(stage: Stage) -> None:
    def crash(call: Call) -> None:
        backend.stop_listening()
        call.hang_up()

    backend = await stage.backend.start()
    backend.on["PUT"] = crash
    checked = await run_check(backend)
    assert checked.wrong() == [("FAIL", "PUT text"), ("FAIL", "POST")]
    assert checked.of("PUT text").message.startswith("the backend closed the connection without a complete answer")


async def test_a_backend_that_takes_no_message_has_no_latency(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["PUT"] = lambda call: call.answer(500)
    checked = await run_check(backend)
    names = [each.check for each in checked.findings]
    assert {"PUT repeated", "API_CONNECTIONS", "keep-alive"}.isdisjoint(names)
    assert checked.of("DELETE").status.value == "OK"


async def test_a_repeat_that_is_refused_is_a_failure(stage: Stage) -> None:
    seen: set[str] = set()

    def refuse_repeats(call: Call) -> None:
        if call.headers["ce-id"] in seen:
            call.answer(409, "duplicate")
        else:
            seen.add(call.headers["ce-id"])
            call.ok()

    backend = await stage.backend.start()
    backend.on["PUT"] = refuse_repeats
    checked = await run_check(backend)
    assert ("FAIL", "PUT repeated") in checked.wrong()
    assert checked.of("PUT repeated").line() == (
        "FAIL  PUT repeated: the backend answered 409: 'duplicate' to a ce-id that it had acknowledged; acknowledge a "
        "repeated ce-id with 2xx"
    )


async def test_a_backend_that_ends_connections_without_a_word_is_named(stage: Stage) -> None:
    def answer(call: Call) -> None:
        call.ok()
        call.connection.close()

    backend = await stage.backend.start()
    backend.on["PUT"] = answer
    found = (await run_check(backend)).of("keep-alive")
    assert found.status.value == "WARN"
    assert "at once, and its answers had not announced it" in found.message


async def test_a_slow_backend_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "SLOW_S", 0.0)
    backend = await stage.backend.start()
    found = (await run_check(backend)).of("latency")
    assert found.status.value == "WARN"
    assert "a client can send" in found.advice


async def test_messages_that_are_not_taken_are_no_samples(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["PUT"] = refuse(lambda call: call.body == b"hi", 409)
    checked = await run_check(backend, Options(message="hi", rate=1))
    assert checked.of("API_CONNECTIONS").message.endswith("1 message per second needs about 1 connection of 128")
