"""Who may use the console, and what it never shows."""

from typing import Any

import pytest

from tests.support.console import stream
from tests.support.ports import free_port
from tests.support.stage import Node, Stage

API = "/console/api/node"


async def refused(node: Node, path: str, **options: Any) -> tuple[int, str]:
    """Make a request that is refused; return status and code."""
    answer = await node.rest("GET", path, **options)
    return answer.status, answer.json["code"]


async def test_the_page_is_served_with_headers_that_protect_it(stage: Stage) -> None:
    node = await stage.node(control_token="s3cret")
    answer = await node.rest("GET", "/console")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(each.strip().split(" ", 1) for each in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"
    assert await refused(node, API) == (401, "UNAUTHORIZED")
    assert (await node.rest("GET", API, Authorization="Bearer s3cret", Origin="https://other.example")).status == 200


async def test_without_a_token_only_the_page_of_the_same_gateway_may_use_it(stage: Stage) -> None:
    node = await stage.node()
    host = f"127.0.0.1:{node.port}"
    own = {"Origin": f"http://{host}"}
    assert (await node.rest("GET", API)).status == 200
    assert (await node.rest("GET", API, headers=own)).status == 200
    assert (await node.rest("GET", API, headers={**own, "Sec-Fetch-Site": "same-origin"})).status == 200
    # A proxy in front of the gateway may have TLS.
    assert (await node.rest("GET", API, headers={"Origin": f"https://{host}"})).status == 200
    for wrong in (
        {"Origin": "http://page.example"},
        {"Origin": "null"},
        {"Origin": f"http://localhost:{node.port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {**own, "Sec-Fetch-Site": "cross-site"},
        {"Host": "rebound.example", "Origin": "http://rebound.example"},
        {"Host": "rebound.example"},
    ):
        assert await refused(node, API, headers=wrong) == (403, "FORBIDDEN"), wrong
    # Everything else still refuses all pages.
    assert await refused(node, "/connections", headers=own) == (403, "FORBIDDEN")
    assert await refused(node, "/console", Host="rebound.example") == (403, "FORBIDDEN")


async def test_without_a_token_it_is_for_this_machine_only(stage: Stage) -> None:
    node = await stage.node(ws_hostname="gateway.test", listen="127.0.0.1:0", control_listen=f"127.0.0.1:{free_port()}")
    node.port = node.gateway.addresses[-1].port
    through_proxy = [{"Host": "gateway.test"}, {"X-Forwarded-For": "192.0.2.7"}, {"Forwarded": "for=192.0.2.7"}]
    for path in ("/console", API):
        assert (await node.rest("GET", path)).status == 200
        for headers in through_proxy:
            assert await refused(node, path, headers=headers) == (403, "FORBIDDEN"), headers
    for headers in through_proxy:
        assert (await node.rest("GET", "/connections", headers=headers)).status == 200


async def test_with_a_token_it_is_served_to_other_machines(stage: Stage) -> None:
    for guarded, statuses in (({}, [404, 403, 404]), ({"control_token": "s3cret"}, [200] * 3)):
        node = await stage.node(listen="0.0.0.0:0", ws_hostname="127.0.0.1:1", **guarded)
        node.port = node.gateway.addresses[-1].port
        for status, headers in zip(
            statuses, ({}, {"Host": "gateway.test"}, {"X-Forwarded-For": "192.0.2.7"}), strict=True
        ):
            allowed = {**headers, "Authorization": "Bearer s3cret"}
            assert (await node.rest("GET", API, headers=allowed)).status == status, headers


async def test_the_console_can_be_turned_off(stage: Stage) -> None:
    node = await stage.node(console="off")
    for path in ("/console", API, "/console/api/connections", "/console/api/connects/events"):
        assert await refused(node, path) == (404, "NOT_FOUND")


async def test_it_is_behind_the_prefix_of_ws_hostname_too(stage: Stage) -> None:
    node = await stage.node()
    other = await stage.node(ws_hostname=f"127.0.0.1:{node.port + 1}/hub", listen="127.0.0.1:0")
    other.port = other.gateway.addresses[0].port
    _, name = await other.admit()
    for start in ("", "/hub"):
        assert (await other.rest("GET", f"{start}/console")).status == 200
        assert (await other.rest("GET", f"{start}/console/api/connections/{name}")).status == 200


@pytest.mark.parametrize("path", ["events", "ring"])
async def test_a_connection_that_nobody_holds_is_gone(stage: Stage, path: str) -> None:
    node = await stage.node()
    assert await refused(node, f"/console/api/connections/{'A' * 30}/{path}") == (410, "GONE")
    assert await refused(node, f"/console/api/connections/{'A' * 30}") == (410, "GONE")


async def test_requests_that_make_no_sense_are_refused(stage: Stage) -> None:
    node = await stage.node()
    for query in ("count=0", "count=21", "count=x"):
        assert await refused(node, f"/console/api/connects/events?{query}") == (400, "BAD_REQUEST")
    for query in ("key=x&count=1", "key=AAAAAAAAAAAAAAAA&count=0"):
        assert await refused(node, f"/console/api/connects/ring?{query}") == (400, "BAD_REQUEST")
    for query in ("field=x", "sort=x", "limit=0", "limit=201", f"search={'a' * 201}", "after=x", "after=W10"):
        assert await refused(node, f"/console/api/connections?{query}") == (400, "BAD_REQUEST"), query


async def test_a_head_request_gets_no_stream(stage: Stage) -> None:
    node = await stage.node()
    _, name = await node.admit()
    for path in (f"connections/{name}/events", "connects/events"):
        answer = await node.rest("HEAD", f"/console/api/{path}")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"


async def test_there_is_room_for_eight_viewers(stage: Stage) -> None:
    node = await stage.node()
    _, name = await node.admit()
    path = f"connections/{name}/events"
    async with (
        stream(node, path) as first,
        stream(node, path),
        stream(node, path),
        stream(node, path),
        stream(node, path),
        stream(node, path),
        stream(node, path),
    ):
        async with stream(node, "connects/events") as last:
            assert first.status == last.status == 200
            for wrong in (path, "connects/events", "connects/ring?key=AAAAAAAAAAAAAAAA"):
                assert await refused(node, f"/console/api/{wrong}") == (429, "TOO_MANY_VIEWERS")
        while (await node.rest("GET", "/console/api/connects/ring?key=AAAAAAAAAAAAAAAA")).status == 429:
            pass
