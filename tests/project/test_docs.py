"""The documentation is a contract: its tables, figures, commands and links are compared with the code."""

import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import fields
from functools import partial
from pathlib import Path

import orjson
import pytest
from websockets.sync.client import connect

from benchmarks.cases import CASES
from tests.support.documentation import REFERENCE, faults, section
from tests.support.fakes import (
    FakeBreaker,
    FakeClock,
    FakePool,
    FakeWebhook,
    body_of,
    make_closed,
    make_metrics,
    make_opened,
    make_settings,
)
from tests.support.ports import free_port
from wsaas import reload
from wsaas.api import connections, listing
from wsaas.api.api import Api
from wsaas.cluster import link_policy, peer_link, peer_process, replication
from wsaas.counters import Counters
from wsaas.delivery import circuit_breaker, inbox, journal, recovery, replicated_journal, retries, webhook
from wsaas.delivery.connect_answer import judge_opened
from wsaas.delivery.event_bodies import disconnect_body
from wsaas.delivery.message_answer import MAX_CONTEXT
from wsaas.delivery.pool import Failure
from wsaas.delivery.verdicts import Actions, Rejected, Retry
from wsaas.events import Closed, Message
from wsaas.grammar import GROUP_NAME_FORM, MAX_GROUP_NAME
from wsaas.http import body as bodies
from wsaas.http import headers as heads
from wsaas.http import request as http1
from wsaas.http import request_head
from wsaas.http.response import Response
from wsaas.http.trace_context import TraceContext
from wsaas.log import output as log
from wsaas.membership import bus
from wsaas.memory import limit as memory_limit
from wsaas.reason import Reason
from wsaas.run_queue import SLICE_S, TURN_S, RunQueue
from wsaas.sessions import registry
from wsaas.sessions.fan_out import FAN_OUT_SLICE_S, FanOutQueue
from wsaas.sessions.publication import MAX_NAMED
from wsaas.settings import DELETE_RETRY_FACTOR, Settings, variable
from wsaas.transport import admission, deferring, descriptors, listener, node_connector
from wsaas.transport import http_server as server
from wsaas.transport import pending_client as pending
from wsaas.websocket import frames

BAD_GATEWAY = 502

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()
PAGES = sorted(
    [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    + [ROOT / name for name in ("clients/js/README.md", "examples/README.md")]
    + [*(ROOT / "docs").rglob("*.md")]
)


def blocks(language: str, text: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def without_code(text: str) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_of_settings_is_that_of_the_code():
    expected = []
    for setting in fields(Settings):
        default = setting.metadata["default"]
        shown = f"`{default}`" if default else "required" if setting.name == "api_uri" else "none"
        expected.append(f"| `{variable(setting)}` | {shown} | {setting.metadata['meaning']} |")
    assert section("Settings").strip().splitlines()[-len(expected) :] == expected


def test_each_fault_is_named_with_its_status_and_no_other_is():
    named = re.findall(r"^\| (\d{3}) `([A-Z_]+)` \|", section("Errors"), re.MULTILINE)
    assert {(int(status), code) for status, code in named} == faults()
    assert len(named) == len(faults())


def test_the_table_of_requests_names_no_other_fault():
    named = re.findall(r"(\d{3}) `([A-Z_]+)`", section("REST API").partition("## Errors")[0])
    assert named
    assert {(int(status), code) for status, code in named} <= faults()


def test_each_close_code_of_the_gateway_is_named_with_its_reason():
    rows = re.findall(r"^\| (\d{4}) \| (.*?) \|", section("Close codes"), re.MULTILINE)
    # Nobody sends a Close with 1005 or 1006. The texts of these two come from the backend and from the decoder.
    sent = {each for each in Reason if each.code not in {1005, 1006}} - {Reason.BACKEND_CLOSED, Reason.VIOLATION}
    assert {row for row in rows if row[1].startswith("`")} == {(str(each.code), f"`{each.value}`") for each in sent}
    of_the_decoder = {frames.PROTOCOL_ERROR, frames.BAD_TEXT, frames.TOO_BIG}
    others = sorted(int(code) for code, reason in rows if not reason.startswith("`"))
    assert others == sorted({Reason.BACKEND_CLOSED.code, Reason.VIOLATION.code} | of_the_decoder)


def test_each_header_of_the_requests_is_in_the_table_and_no_other_is():
    settings = make_settings(api_secret="whsec_" + "A" * 32)
    requests = webhook.Webhook(settings, FakePool(), FakeBreaker(), lambda: 0.0)
    trace = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1")
    subject = webhook.Subject("id", "node", b"Bearer secret", "context", trace)
    events = [make_opened(), Message(text=True, data=b""), make_closed()]
    sent = set()
    for event in events:
        head = requests.request(subject, event).partition(b"\r\n\r\n")[0].decode()
        sent |= {line.partition(":")[0] for line in head.split("\r\n")[1:]}
    first_cells = re.findall(r"^\| (.*?) \|", section("Request headers"), re.MULTILINE)
    assert {name for cell in first_cells for name in re.findall(r"`([\w-]+)`", cell)} == sent


def test_each_member_of_the_body_of_a_post_is_described():
    text = section("POST: a client connects")
    body = orjson.loads(body_of(make_opened()))
    for name in [*body, *body["request"]]:
        assert f'"{name}":' in text or f"`{name}`" in text, name


def refusal(outcome):
    """Return the verdict on a POST that does not accept the client."""
    verdict = judge_opened(outcome)
    assert isinstance(verdict, Rejected)
    return verdict


def test_each_answer_of_a_post_is_judged_as_its_table_says():
    table = section("POST: a client connects")
    for failure in Failure:
        refused = refusal(failure)
        assert re.search(rf"\| {refused.error.status}\b.*\| {'yes' if refused.disconnect_owed else 'no'} \|", table)
    refusals = {status: refusal(Response(status, {})) for status in range(300, 600)}
    statuses = re.search(r"answers (\d+), (\d+), (\d+), (\d+) or (\d+) \| the same", table)
    assert statuses
    assert {int(each) for each in statuses.groups()} == {
        status for status, refused in refusals.items() if refused.error.status == status and status != BAD_GATEWAY
    }
    unknown = re.search(r"answers (\d+) or (\d+), which may come from a proxy .* \| 502 \| yes \|", table)
    assert unknown
    assert {int(each) for each in unknown.groups()} == {
        status for status, refused in refusals.items() if refused.disconnect_owed
    }
    assert all(refusals[int(each)].error.status == BAD_GATEWAY for each in unknown.groups())
    assert MAX_CONTEXT == 4 * 1024
    assert "4 KiB of printable ASCII" in table


def test_retries_are_as_the_table_says():
    table = section("PUT: a client sent a message")
    statuses = re.search(r"answers (\d+), (\d+), (\d+) or 5xx", table)
    assert statuses
    hook = webhook.Webhook(make_settings(), FakePool(), FakeBreaker(), lambda: 0.0)
    message = Message(text=True, data=b"hello")
    retried = {status for status in range(300, 600) if isinstance(hook.judge(message, Response(status, {})), Retry)}
    assert {status for status in retried if status < 500} == {int(each) for each in statuses.groups()}
    assert retried >= set(range(500, 600))
    assert f"from {retries.FIRST_RETRY_DELAY_S:g} s to {retries.MAX_RETRY_DELAY_S:g} s" in table
    assert "ten times `API_RETRY`" in section("DELETE: a client disconnected")
    assert DELETE_RETRY_FACTOR == 10


def test_the_delete_of_a_lost_connection_is_the_one_described():
    text = section("DELETE: a client disconnected")
    lost = Closed(1.0, disconnect=recovery.gateway_lost(journal.Entry("id", "node/id", None, None, 0.0), 1.0))
    body = orjson.loads(disconnect_body(lost))
    plain = " ".join(text.split())
    assert f"`code` {body['code']} and `reason` `{body['reason']}`" in plain
    assert "`messages_in`, `messages_out` and `undelivered` are null" in plain
    assert [name for name, value in body.items() if value is None] == ["messages_in", "messages_out", "undelivered"]
    (example,) = blocks("json", text)
    names = re.findall(r'"(\w+)":', example)
    assert list(body) == names
    described = [
        name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert described == [name for name in names if name != "ws_uri"]


def test_a_backend_that_is_down_is_tried_as_often_as_said():
    assert circuit_breaker.MAX_PROBE_DELAY_S == 1.0
    assert "and one request per second probes it" in " ".join(section("Why", README).split())


def test_what_is_owed_is_bounded_and_tried_again_as_said():
    limits = section("Limits")
    assert (
        f"| concurrent DELETEs that an earlier process left, or that were given up | {recovery.MAX_UNDER_WAY} |"
        in limits
    )
    row = f"tried again every {recovery.RETRY_INTERVAL_S:g} s, with a `JOURNAL` | {recovery.MAX_OWED:,};"
    assert row in limits
    assert (
        f"| wait at a stop for the disk of the journal | {journal.CLOSE_TIMEOUT_S:g} s, then exit status 1 |" in limits
    )
    text = " ".join(section("DELETE: a client disconnected").split())
    assert f"tried once more every {recovery.RETRY_INTERVAL_S:g} s" in text


def test_a_start_waits_for_another_as_long_as_said():
    row = "| wait at a start for another process that creates a Unix socket in the same directory"
    assert f"{row} | {listener.LOCK_TIMEOUT_S:g} s, then exit status 1 |" in section("Limits")


def test_the_log_is_bounded_as_said():
    limits = section("Limits")
    row = f"| log lines that wait to be written | {log.MAX_QUEUED_LINES:,}, and {log.MAX_QUEUED_BYTES >> 20} MiB;"
    assert row in limits
    assert f"| wait at the end of the process for the log to be read | {log.FLUSH_TIMEOUT_S:g} s," in limits
    assert f"lines beyond {log.MAX_QUEUED_BYTES >> 20} MiB are" in " ".join(section("Log", OPERATIONS).split())


def test_the_circuit_breaker_is_as_described():
    text = section("When requests fail", OPERATIONS)
    prose = " ".join(text.split())
    assert f"requests of {circuit_breaker.FAILURE_THRESHOLD} different clients failed in a row (502, 503, 504," in text
    assert {502, 503, 504} == circuit_breaker.UNAVAILABLE
    trials = circuit_breaker.MAX_TRIALS
    assert (
        f"up to {trials} at a time; a request without an answer takes one of these {trials} places for a second" in text
    )
    assert circuit_breaker.TRIAL_SLOT_S == 1.0
    assert f"requests of {circuit_breaker.SUSTAINED_FAILURES} clients have failed in the half-open state" in prose
    assert f"new requests that do not get one of the {trials} places" in prose
    assert f"sent as a probe after {circuit_breaker.FIRST_PROBE_DELAY_S:g} s, later one a second" in text
    rows = re.findall(r"^\| ([a-z][a-z-]*) \|", text, re.MULTILINE)
    assert rows == ["state", *(state.value for state in circuit_breaker.State)]


def test_what_sighup_reloads_is_listed_in_full():
    (row,) = re.findall(r"^\| SIGHUP \| (.*) \|$", section("Signals", OPERATIONS), re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == [name.upper() for name in reload.TLS_FILES + reload.SECRET_FILES]


def test_the_list_of_connections_is_paged_as_its_row_says():
    (row,) = [line for line in REFERENCE.splitlines() if line.startswith("| `GET /connections`")]
    assert f"`limit` ({listing.PAGE}, at most {listing.LONGEST_PAGE:,}) per page" in row
    source = (ROOT / "wsaas" / "api" / "listing.py").read_text().split("class Lists", 1)[1]
    for name in ("node", "started_at", "total", "next"):
        assert f"`{name}`" in row
        assert f'"{name}":' in source
    for name in ("limit", "after", "connected_before"):
        assert f"`{name}`" in row
        assert f'"{name}"' in source


def test_the_limits_are_those_of_the_code():
    limits = section("Limits")
    assert f"{request_head.MAX_TARGET // 1024} KiB; {heads.MAX_HEAD // 1024} KiB; {heads.MAX_HEADERS}" in limits
    assert f"{bodies.MAX_EXTRA // 1024} KiB together" in limits
    assert f"{connections.MAX_CLOSE_BODY // 1024} KiB for a DELETE" in limits
    assert f"| chunks of one body before others have their turn | {http1.CHUNKS} |" in limits
    burst = f"{server.MAX_BATCH} requests, {SLICE_S * 1000:g} ms, or one answer of {server.LARGE_RESPONSE // 1024} KiB"
    assert f"| pipelined requests before others have their turn | {burst};" in limits
    assert f"{descriptors.CONTROL_RESERVE} for the REST API + {descriptors.SPARE_DESCRIPTORS} to spare" in limits
    assert f"| {admission.MAX_REFUSED} have a second to read their 429 or 503" in limits
    assert admission.REFUSAL_S == 1.0
    assert f"{admission.MAX_UNDECIDED_OVER_LIMIT} more may be open" in limits
    assert f"each counted with {inbox.MESSAGE_OVERHEAD} bytes of overhead" in limits
    assert f"one frame, or frames for {SLICE_S * 1000:g} ms if nothing else waits." in limits
    assert f"share {TURN_S * 1000:g} ms of each turn of the event loop" in limits
    largest, smallest = memory_limit.MAX_ALLOWANCE >> 20, memory_limit.MIN_ALLOWANCE >> 10
    assert f"falls from {largest} MiB to {smallest} KiB" in limits
    assert f"falls from {largest} MiB to {smallest} KiB" in " ".join(section("Memory", OPERATIONS).split())
    assert f"for each {memory_limit.SAMPLE_BYTES >> 20} MiB that arrive" in limits
    assert f"{pending.MAX_EARLY_DATA // 1024} KiB, then the gateway stops reading until the 101 |" in limits


def test_publishes_are_bounded_as_said():
    limits = section("Publishes")
    slice_ms = f"{FAN_OUT_SLICE_S * 1000:g} ms"
    assert f"before others have their turn | {slice_ms}, or one client |" in limits
    assert (
        f"| {deferring.MAX_BUFFERED_BYTES // 1024} KiB, then the gateway stops reading from the connection |" in limits
    )
    assert f"| clients that an answer names in `slow` or `gone` | {MAX_NAMED:,}; the others are only" in limits
    assert f"| name of a group | {MAX_GROUP_NAME} characters |" in limits
    groups = section("Groups")
    assert f"1 to {MAX_GROUP_NAME} characters of `{GROUP_NAME_FORM.rpartition('of ')[2]}`" in groups
    assert f"served in slices of {slice_ms}" in groups
    assert f"up to {MAX_NAMED:,}" in groups


def test_requests_for_other_workers_are_bounded_as_said():
    limits = section("Requests for other workers")
    assert f"| time for a worker to answer | {link_policy.PEER_TIMEOUT_S:g} s." in limits
    assert f"on each of {1 + peer_process.BULK_LINKS} connections | {peer_link.MAX_OUTSTANDING:,};" in limits
    assert f"on each connection | {peer_link.MAX_UNSENT >> 20} MiB, or one request;" in limits


def test_requests_for_other_nodes_are_bounded_as_said():
    limits = section("Requests for other nodes")
    policy = link_policy.node_policy(60.0)
    assert f"| time for a node to answer | {policy.timeout:g} s." in limits
    assert f"| time to connect to a node | {node_connector.CONNECT_TIMEOUT_S:g} s." in limits
    assert f"after its connection was lost | {policy.verdict:g} s." in limits
    assert f"before the connection is replaced | {policy.timeout + policy.silence:g} s |" in limits
    assert policy.idle == 60.0 / 2


def test_the_headers_of_an_answer_to_a_message_are_listed_in_the_order_in_which_they_act():
    table = section("PUT: a client sent a message")
    rows = re.findall(r"^\| `(Ws-\w+)", table, re.MULTILINE)
    assert [row.removeprefix("Ws-").lower() for row in rows] == [each.name for each in fields(Actions)]
    assert {row.lower().encode() for row in rows} == heads.ACTION_HEADERS


@pytest.mark.parametrize("name", ["sent", "gone", "slow", "closed", "missing", "unreached"])
def test_what_a_request_about_many_clients_answers_is_described(name):
    assert f"`{name}`" in section("Groups") + section("Many clients in one request")


def described_requests() -> set[tuple[str, str]]:
    """Return method and path of each request in the table of the REST API; `ws_uri` stands for any id."""
    table = section("REST API").partition("## ")[0]
    named = re.findall(r"^\| `([A-Z]+) ([^`?]+)[^`]*` \|", table, re.MULTILINE)
    assert re.search(r"^\| `HEAD` instead of any `GET` \|", table, re.MULTILINE)
    return {*named, *(("HEAD", path) for method, path in named if method == "GET")}


def test_the_table_of_requests_has_each_route_and_no_other():
    # Of the console, only the page is described.
    described = {(method, path) for method, path in described_requests() if path != "/console"}
    clock, settings = FakeClock(), make_settings()
    api = Api(
        settings,
        registry.Registry(settings, clock, FakeWebhook(), journal.NoJournal(), 10),
        FanOutQueue(RunQueue(clock), 1),
        metrics=make_metrics(Counters()),
    )
    an_id = "A" * 30
    examples = {
        path: path.replace("ws_uri", f"/{an_id}").replace("{id}", an_id).replace("{name}", "lobby").encode()
        for _, path in described
    }
    served = set()
    for route in api.routes:
        # A route that the table lacks is shown by its pattern.
        paths = [path for path, example in examples.items() if route.match(example) is not None]
        paths = paths or [route.pattern.pattern.decode()]
        served |= {(method.decode(), path) for path in paths for method in route.methods}
    assert described == served


def test_the_form_of_an_id_is_the_one_described():
    assert "30 characters of `A-Z a-z 0-9 - _`" in section("REST API")
    assert registry.ID_FORM.pattern == "[A-Za-z0-9_-]{30}"


def test_information_is_listed_in_full():
    row = re.search(r"\| `GET ws_uri` \| returns (.*?) \|", REFERENCE)
    assert row
    source = (
        (ROOT / "wsaas" / "sessions" / "information.py").read_text().split("def information", 1)[1].split("}", 1)[0]
    )
    assert re.findall(r"`(\w+)`", row[1]) == re.findall(r'^ +"(\w+)":', source, re.MULTILINE)


def test_ci_runs_the_command_of_the_readme():
    (command,) = blocks("sh", section("Work on it", README))
    assert f"({command.strip()})" in (ROOT / ".ci" / "run").read_text()


def test_the_measured_cases_exist():
    named = [each for page in PAGES for each in re.findall(r"python -m benchmarks ([\w,]+)", page.read_text())]
    assert len(set(named)) > 10
    for case in {case for each in named for case in each.split(",")}:
        assert case in CASES


def test_the_body_of_a_close_is_as_long_as_said():
    assert f"a reason of up to {frames.MAX_REASON} bytes" in section("REST API")


def test_the_example_backend_echoes(tmp_path):
    (source,) = blocks("python", section("A whole backend", README))
    assert source.count("8000") == 1
    backend_port, port = free_port(), free_port()
    script = tmp_path / "backend.py"
    script.write_text(source.replace("8000", str(backend_port)))
    settings = {"API_URI": f"127.0.0.1:{backend_port}/websocket", "WS_HOSTNAME": f"127.0.0.1:{port}"}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **settings}
    start = partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    with start([sys.executable, script]) as backend, start([sys.executable, "-m", "wsaas"]) as gateway:
        try:
            assert gateway.stderr
            assert backend.stdout
            assert "listening" in gateway.stderr.readline()
            wait_for(backend_port)
            with connect(f"ws://127.0.0.1:{port}/any/path") as websocket:
                for message in ("hello", b"\xff\x00", "", b"", "Grüße"):
                    websocket.send(message)
                    assert websocket.recv(timeout=10) == message
            lines = [backend.stdout.readline() for _ in range(7)]
            assert [line.split()[0] for line in lines] == ["POST", *["PUT"] * 5, "DELETE"]
            assert len({line.split()[1] for line in lines}) == 1
        finally:
            gateway.kill()
            backend.kill()


def test_the_example_backend_passes_the_linter_where_it_is_saved(tmp_path):
    (source,) = blocks("python", section("A whole backend", README))
    assert "Save it as `backend.py`" in section("A whole backend", README)
    assert len(source.splitlines()) <= 25
    (tmp_path / "backend.py").write_text(source)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No Python files" not in done.stderr


def wait_for(port: int) -> None:
    """Try until somebody listens on `port`."""
    deadline = time.monotonic() + 20
    while not listens(port):
        assert time.monotonic() < deadline


def listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def test_the_readme_is_short():
    assert len(README.split()) <= 1500


def test_the_figures_of_the_readme_are_measured_ones():
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", section("How fast", README), re.MULTILINE)
    figures = [figure.split()[0] for _, *cells in rows for figure in cells if figure[0].isdigit()]
    assert len(figures) == 16
    for figure in figures:
        assert re.search(rf"\| {re.escape(figure)}(?= \(| \|)", section("Results", PERFORMANCE)), figure


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_within_the_repository_lead_to_files_and_headings(page):
    text = without_code(page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(found.read_text()), target


def test_the_pages_are_part_of_the_source_distribution():
    (included,) = re.findall(r"^include = \[(.*?)\]$", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    for page in PAGES:
        top = page.relative_to(ROOT).parts[0]
        assert f'"/{top}"' in included


def test_the_limits_of_the_replication_are_those_of_the_code():
    limits = section("Limits")
    answer = f"| {bus.ACK_TIMEOUT_S:g} s, then the local journal alone has to do |"
    assert f"| wait of a POST for the acknowledgement of NATS {answer}" in limits
    assert f"of those that could not be written before | {replicated_journal.MAX_REWRITES} |" in limits
    stop = f"| {replication.FLUSH_TIMEOUT_S:g} s, then another node finds them |"
    assert f"| wait at a stop for NATS to store or remove entries {stop}" in limits
    assert f"| until it has joined again, at most {replication.PAUSE_S:g} s |" in limits
