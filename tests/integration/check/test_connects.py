"""Clients that the backend accepts or refuses, and the subprotocol."""

import html
import json
from typing import Any

import pytest

from tests.support.backend import Call
from tests.support.checked import run_check
from tests.support.stage import Stage
from wsaas.check.context import Options
from wsaas.delivery.failure_report import EXCERPT_LENGTH

SECRET = "whsec_" + "A" * 32
TOKEN = Options(headers=(("Authorization", "Bearer abcdef"), ("X-Tenant", "7"), ("X-Tenant", "8")))


async def test_the_post_is_that_of_a_client(stage: Stage) -> None:
    backend = await stage.backend.start()
    options = Options(path="/rooms/lobby?nick=ada", headers=TOKEN.headers)
    await run_check(backend, options, subprotocols="v2,v1", ws_hostname="127.0.0.1:9")
    call = await backend.take("POST")
    request = call.json["request"]
    assert call.headers["authorization"] == "Bearer abcdef"
    assert (request["path"], request["query"], request["subprotocols"]) == ("/rooms/lobby", "nick=ada", ["v2", "v1"])
    sent = request["headers"]
    assert sent["host"] == "127.0.0.1:9"
    assert sent["x-tenant"] == "7, 8"
    assert sent["authorization"] == "Bearer abcdef"
    assert sent["wsaas-check"] == "1"
    assert sent["sec-websocket-protocol"] == "v2, v1"


async def test_every_client_that_was_accepted_gets_its_delete(stage: Stage) -> None:
    backend = await stage.backend.start()
    await run_check(backend, TOKEN)
    posted = [call.client for call in backend.calls if call.method == "POST"]
    deleted = [call.client for call in backend.calls if call.method == "DELETE"]
    assert len(posted) == 3
    # One DELETE is about a client that never connected.
    assert len(deleted) == 4
    assert set(posted) < set(deleted)
    for client in posted:
        assert [call.method for call in backend.of(client)][-1] == "DELETE"


async def test_what_an_answer_contains_is_shown(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["POST"] = lambda call: (
        call.ok(context="user=7", groups=["a", "b"], subprotocol="v1") if has_v1(call) else call.ok()
    )
    checked = await run_check(backend, subprotocols="v1")
    assert checked.of("POST answer").message == (
        "has a context of 6 characters, the groups a, b and the subprotocol v1; all are optional"
    )
    assert (await backend.take("PUT")).headers["ws-context"] == "user=7"


def has_v1(call: Call) -> bool:
    return "v1" in call.json["request"]["subprotocols"]


@pytest.mark.parametrize(
    ("status", "body", "chosen", "advice"),
    [
        (401, "", {}, "the handshake's Authorization is passed on unchanged; let the check connect as a client would"),
        (
            403,
            "",
            {},
            "exempt this path; the Host may be one that it does not allow; let the check connect as a client would",
        ),
        (401, "", {"api_secret": SECRET}, "API_SECRET has to be the secret that the backend verifies with"),
        (200, {"code": "BANNED"}, {"api_secret": SECRET}, "let the check connect as a client would: --path, --header"),
        (200, {"code": "ok"}, {}, 'only {"code": "OK"}, in capitals, accepts a client'),
        (404, "", {}, "check the path in API_URI"),
        (200, {"code": "OK", "context": "\n"}, {}, "answer 2xx with a JSON object"),
    ],
)
async def test_a_refusal_says_what_may_be_missing(
    stage: Stage, status: int, body: Any, chosen: dict[str, Any], advice: str
) -> None:
    backend = await stage.backend.start()
    backend.on["POST"] = lambda call: call.answer(status, body)
    checked = await run_check(backend, **chosen)
    assert checked.wrong() == [("FAIL", "POST")]
    assert advice in checked.of("POST").advice
    assert backend.count("PUT") == 0


async def test_more_groups_than_allowed_are_a_failure(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["POST"] = lambda call: call.ok(groups=["a", "b"])
    checked = await run_check(backend, max_groups=1)
    assert checked.wrong() == [("FAIL", "POST")]
    assert "the backend accepted the client, but the client gets 502" in checked.of("POST").message
    assert "MAX_GROUPS" in checked.of("POST").advice
    # Its DELETE was sent nevertheless.
    assert backend.count("DELETE") == 1


@pytest.mark.parametrize(
    ("status", "body", "finding"),
    [
        (200, {"code": "OK"}, ("WARN", "the client is accepted")),
        (401, "", ("OK", "the client is refused with 401")),
        (200, {"code": "NO_USER"}, ("OK", "the client is refused with 403")),
        (200, {"code": "NO", "close": {"code": 4401}}, ("OK", "the client is refused with the close 4401")),
        (200, {"code": "NO", "close": 4401}, ("FAIL", "the backend answered 200 with a close that is not")),
        (302, "", ("FAIL", "the backend answered 302, so the client gets 502")),
        (200, "login", ("FAIL", "so the client gets 502")),
    ],
)
async def test_a_client_without_credentials_has_to_be_refused(
    stage: Stage, status: int, body: Any, finding: tuple[str, str]
) -> None:
    def decide(call: Call) -> None:
        if "authorization" in call.headers:
            call.ok()
        else:
            assert "authorization" not in call.json["request"]["headers"]
            assert call.json["request"]["headers"]["x-tenant"] == "7, 8"
            call.answer(status, body)

    backend = await stage.backend.start()
    backend.on["POST"] = decide
    found = (await run_check(backend, TOKEN)).of("POST without credentials")
    assert (found.status.value, finding[1] in found.message) == (finding[0], True)


async def test_the_token_of_a_browser_is_a_credential_that_can_be_left_out(stage: Stage) -> None:
    def decide(call: Call) -> None:
        assert call.json["request"]["query"] == "room=7"
        is_known = call.headers.get("authorization") == "Bearer s3cr.et"
        call.ok() if is_known else call.answer(401)

    backend = await stage.backend.start()
    backend.on["POST"] = decide
    options = Options(path="/?room=7&access_token=s3cr.et")
    found = await run_check(backend, options, browser_authorization="query:access_token")
    assert found.of("POST without credentials").message == "the client is refused with 401"
    assert found.is_complete
    assert "s3cr" not in repr(found)


async def test_a_token_of_a_browser_that_is_refused_ends_the_check(stage: Stage) -> None:
    backend = await stage.backend.start()
    options = Options(path="/?access_token=s3cr%20et")
    checked = await run_check(backend, options, browser_authorization="query:access_token")
    found = checked.of("POST")
    assert (found.status.value, checked.is_complete) == ("FAIL", False)
    assert found.message.startswith("the handshake is refused: The token in the query parameter access_token may only")
    assert "s3cr" not in repr(checked)


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        (400, ("OK", "a client that offers only an unknown one is refused")),
        (500, ("FAIL", "a client offered wsaas-check, and the backend answered 500")),
    ],
)
async def test_a_client_with_an_unknown_subprotocol_may_be_refused(
    stage: Stage, status: int, finding: tuple[str, str]
) -> None:
    backend = await stage.backend.start()
    backend.on["POST"] = lambda call: call.answer(status) if call.json["request"]["subprotocols"] else call.ok()
    found = (await run_check(backend)).of("subprotocol")
    assert (found.status.value, found.message) == finding


async def test_a_post_without_an_answer_is_a_failure_and_ends_in_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsaas.check.observed_gateway.CLOSE_TIMEOUT_S", 0.05)
    backend = await stage.backend.start()
    backend.hold("POST", "DELETE")
    checked = await run_check(backend, api_timeout=100)
    assert checked.wrong() == [("FAIL", "POST")]
    assert checked.of("POST").line() == (
        "FAIL  POST: the backend did not answer in time (0.1 s); answer sooner, or raise API_TIMEOUT"
    )
    # The backend may have accepted the client.
    assert backend.count("DELETE") == 1


async def test_the_whole_check_has_a_time_limit(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsaas.check.observed_gateway.CLOSE_TIMEOUT_S", 0.05)
    backend = await stage.backend.start()
    backend.hold("PUT")
    checked = await run_check(backend, Options(timeout=0.2))
    assert checked.wrong() == [("FAIL", "time")]
    assert "were not done within 0.2 s" in checked.of("time").message
    assert not checked.is_complete


async def test_secrets_are_hidden_even_if_the_backend_repeats_them(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["POST"] = lambda call: call.answer(
        500, f"{call.headers['authorization']} {call.target} {call.json['request']['query']} abcdef t0ken {'A' * 32}"
    )
    options = Options(path="/?ticket=s3cret", headers=TOKEN.headers)
    checked = await run_check(f"{backend.authority}/hook?key=k3y5", options, control_token="t0ken", api_secret=SECRET)
    text = repr(checked)
    assert "(hidden)" in text
    for secret in ("abcdef", "s3cret", "k3y5", "t0ken", "A" * 32):
        assert secret not in text


async def test_nothing_is_logged(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["PUT"] = lambda call: call.answer(500)
    await run_check(backend)
    assert stage.messages() == []


async def test_the_settings_of_several_workers_are_those_of_the_first(stage: Stage) -> None:
    backend = await stage.backend.start()
    backend.on["PUT"] = lambda call: call.ok()
    checked = await run_check(backend, workers=2, api_connections=10)
    assert checked.of("API_CONNECTIONS").message.endswith("of 10")


async def test_a_quick_check_sends_three_requests_about_a_client_and_one_about_an_unknown_one(stage: Stage) -> None:
    backend = await stage.backend.start()
    checked = await run_check(backend, Options(is_quick=True))
    assert [call.method for call in backend.calls] == ["POST", "PUT", "DELETE", "DELETE"]
    assert checked.wrong() == []
    assert checked.is_complete


@pytest.mark.parametrize("said", ["{}", '{} is not "me"', '{{"key": {json}}}', "<p>{html}"])
@pytest.mark.parametrize("secret", ["s3cr3t-in-a-header", "s3c'r3t\"in\\a-header", "s3c'r3t-in-a-header"])
async def test_a_secret_is_hidden_however_the_backend_spells_it(stage: Stage, said: str, secret: str) -> None:
    page = said.format(secret, json=json.dumps(secret), html=html.escape(secret))
    backend = await stage.backend.start()
    backend.on["POST"] = lambda call: call.answer(500, page)
    checked = await run_check(backend, Options(headers=(("X-Key", secret),)))
    assert checked.of("POST").message.count("(hidden)") == 1
    assert "header" not in checked.of("POST").message


@pytest.mark.parametrize("before", range(EXCERPT_LENGTH - 30, EXCERPT_LENGTH))
async def test_no_part_of_a_secret_is_shown_where_a_quotation_ends(stage: Stage, before: int) -> None:
    backend = await stage.backend.start()
    backend.on["POST"] = lambda call: call.answer(500, "-" * before + "s3cr3t-in-a-header-that-is-wrong")
    checked = await run_check(backend, Options(headers=(("X-Key", "s3cr3t-in-a-header"),)))
    assert "s3cr" not in checked.of("POST").message
