"""The events of the page about HTTP between the gateway and the chat."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.waiting import TIMEOUT_S
from wsaas.demo.chat import Answer
from wsaas.demo.traffic import MAX_BODY_BYTES, Request, Traffic, curl, printable

OK = Answer(200, b'{"code": "OK"}')


def a_request(body: bytes = b"hi", url: str = "http://localhost:8000/websocket", **headers: str) -> Request:
    """Return a request as the gateway sends it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("backend", "PUT", url, named, body, "localhost:8080/1")


def read(stream: Iterator[str]) -> tuple[str, list[dict[str, Any]]]:
    """Return the id of the next event, and its exchanges."""
    first, second, *rest = next(stream).split("\n")
    assert rest == ["", ""]
    return first.removeprefix("id: "), json.loads(second.removeprefix("data: "))


def seen(traffic: Traffic) -> list[dict[str, Any]]:
    """Return all recorded exchanges."""
    return read(traffic.stream())[1]


def test_an_exchange_has_the_request_and_the_answer() -> None:
    traffic = Traffic()
    request = a_request(Host="localhost:8000", Ws_Uri="localhost:8080/1", Content_Length="2")
    assert traffic.observe(request, lambda: Answer(200, b"ho", "text")) == Answer(200, b"ho", "text")
    (exchange,) = seen(traffic)
    assert exchange.pop("ms") >= 0
    assert exchange.pop("at") > 0
    assert exchange.pop("curl").startswith("curl ")
    assert exchange == {
        "number": 1,
        "to": "backend",
        "method": "PUT",
        "url": "http://localhost:8000/websocket",
        "headers": {"Ws-Uri": "localhost:8080/1"},
        "body": "hi",
        "ws_uri": "localhost:8080/1",
        "status": 200,
        "answer": "ho",
        "ws_reply": "text",
        "error": "",
    }


def test_a_request_is_shown_before_it_is_answered() -> None:
    traffic = Traffic()
    watching: list[dict[str, Any]] = []

    def call() -> Answer:
        watching.extend(seen(traffic))
        return OK

    traffic.observe(a_request(), call)
    assert (watching[0]["number"], watching[0]["status"], watching[0]["ms"]) == (1, None, None)
    assert (seen(traffic)[0]["number"], seen(traffic)[0]["status"]) == (1, 200)


def test_a_call_of_the_gateway_is_shown_with_its_url() -> None:
    traffic = Traffic()
    called: list[tuple[str, str, bytes]] = []

    def call(method: str, url: str, body: bytes) -> Answer:
        called.append((method, url, body))
        return OK

    observed = traffic.observed(call)
    assert observed("PUT", "http://a/groups/1", b"{}") == OK
    assert observed("GET", "http://a/groups/2", b"") == OK
    assert called == [("PUT", "http://a/groups/1", b"{}"), ("GET", "http://a/groups/2", b"")]
    first, second = seen(traffic)
    assert (first["to"], first["method"], first["url"]) == ("gateway", "PUT", "http://a/groups/1")
    assert (first["ws_uri"], first["headers"]) == ("", {"Content-Type": "application/json"})
    assert (second["method"], second["headers"]) == ("GET", {})


def test_a_call_that_fails_is_shown_as_failed_and_still_fails() -> None:
    traffic = Traffic()

    def call() -> Answer:
        raise ConnectionRefusedError("nobody there")

    with pytest.raises(ConnectionRefusedError):
        traffic.observe(a_request(), call)
    (exchange,) = seen(traffic)
    assert (exchange["status"], exchange["answer"]) == (None, None)
    assert exchange["error"] == "ConnectionRefusedError: nobody there"


def test_only_the_last_exchanges_are_kept() -> None:
    traffic = Traffic(kept=3)
    for _ in range(5):
        traffic.observe(a_request(), lambda: OK)
    assert [exchange["number"] for exchange in seen(traffic)] == [3, 4, 5]


def test_a_watcher_gets_recorded_exchanges_and_then_new_ones() -> None:
    traffic = Traffic()
    traffic.observe(a_request(b"before"), lambda: OK)
    stream = traffic.stream()
    assert [exchange["body"] for exchange in read(stream)[1]] == ["before"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(read, stream)
        traffic.observe(a_request(b"after"), lambda: OK)
        assert [exchange["body"] for exchange in waiting.result(TIMEOUT_S)[1]] == ["after"]


def test_exchanges_are_ordered_by_their_start() -> None:
    traffic = Traffic()
    traffic.observe(a_request(b"outer"), lambda: traffic.observe(a_request(b"inner"), lambda: OK))
    assert [exchange["body"] for exchange in seen(traffic)] == ["outer", "inner"]


def test_a_slow_watcher_misses_old_exchanges_and_delays_nobody() -> None:
    traffic = Traffic(kept=2)
    stream = traffic.stream()
    traffic.observe(a_request(), lambda: OK)
    read(stream)
    for _ in range(10):
        traffic.observe(a_request(), lambda: OK)
    assert [exchange["number"] for exchange in read(stream)[1]] == [10, 11]


def test_a_watcher_that_reconnects_gets_only_new_exchanges() -> None:
    traffic = Traffic()
    traffic.observe(a_request(b"old"), lambda: OK)
    last, _ = read(traffic.stream())
    traffic.observe(a_request(b"new"), lambda: OK)
    assert [exchange["body"] for exchange in read(traffic.stream(after=last))[1]] == ["new"]


@pytest.mark.parametrize("after", ["", "nonsense", "another-run.1000", ".", "-1"])
def test_a_watcher_of_another_run_gets_everything(after: str) -> None:
    traffic = Traffic()
    traffic.observe(a_request(), lambda: OK)
    assert len(read(traffic.stream(after))[1]) == 1


def test_a_malformed_number_of_this_run_counts_as_none() -> None:
    traffic = Traffic()
    traffic.observe(a_request(), lambda: OK)
    run = read(traffic.stream())[0].partition(".")[0]
    assert len(read(traffic.stream(f"{run}.x"))[1]) == 1


def test_an_idle_stream_sends_keep_alives() -> None:
    assert next(Traffic(keep_alive=0).stream()) == ": still here\n\n"


def test_closing_ends_every_stream() -> None:
    traffic = Traffic()
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(list, traffic.stream()) for _ in range(2)]
        traffic.close()
        assert [done.result(TIMEOUT_S) for done in waiting] == [[], []]


def test_a_long_body_is_cut_and_has_no_curl_line() -> None:
    traffic = Traffic()
    long = "é".encode() * MAX_BODY_BYTES
    traffic.observe(a_request(long), lambda: Answer(200, long))
    (exchange,) = seen(traffic)
    assert exchange["curl"] is None
    for shown in (exchange["body"], exchange["answer"]):
        assert shown.startswith("éé")
        assert shown.endswith("é…")
        assert len(shown) <= MAX_BODY_BYTES + 1


def test_a_binary_body_is_shown_in_hexadecimal() -> None:
    assert printable(b"\xff\x00") == "(binary) ff 00"
    assert printable(b"a\0b") == "(binary) 61 00 62"
    assert printable(b"\xff" * 100) == "(binary) " + " ".join(["ff"] * 64) + "…"


def arguments_of(line: str) -> list[str]:
    """Return the arguments that a shell passes to the curl of a command line."""
    script = f"curl() {{ cat <&0; printf '\\n%s' \"$@\"; }}\n{line} </dev/null"
    if "|" in line:
        script = f"curl() {{ cat <&0; printf '\\n%s' \"$@\"; }}\n{line}"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=TIMEOUT_S, check=True)
    return done.stdout.decode("utf-8", "surrogateescape").split("\n")


def test_a_curl_line_repeats_any_request() -> None:
    body = 'it\'s $HOME `id` \\ "quoted" @file Grüße'
    line = curl(a_request(body.encode(), Content_Type="text/plain", Ws_Context="a'b", Host="left-out"))
    assert line is not None
    assert arguments_of(line) == [
        "",
        "-i",
        "-X",
        "PUT",
        "-H",
        "Content-Type: text/plain",
        "-H",
        "Ws-Context: a'b",
        "--data-raw",
        body,
        "http://localhost:8000/websocket",
    ]


def test_a_curl_line_pipes_a_binary_body_in() -> None:
    line = curl(a_request(b"\xff\x01", Content_Type="application/octet-stream"))
    assert line is not None
    standard_input, *arguments = arguments_of(line)
    assert standard_input.encode("utf-8", "surrogateescape") == b"\xff\x01"
    assert arguments[-3:] == ["--data-binary", "@-", "http://localhost:8000/websocket"]


def test_a_curl_line_keeps_curl_from_inventing_a_content_type() -> None:
    assert "-H Content-Type: " in (curl(a_request()) or "").replace("'", "")


def test_a_curl_line_of_a_get_has_no_body() -> None:
    assert curl(Request("gateway", "GET", "http://a/groups/lobby", {}, b"")) == "curl -i -X GET http://a/groups/lobby"


def test_a_curl_line_does_not_expand_braces_in_a_url() -> None:
    assert curl(a_request(url="http://localhost/{id}", Content_Type="text/plain")) == (
        "curl -i -X PUT -H 'Content-Type: text/plain' --data-raw hi --globoff 'http://localhost/{id}'"
    )
