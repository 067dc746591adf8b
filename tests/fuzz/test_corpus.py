"""Replays the corpus on every Python without a fuzzer, and checks that it finds planted faults."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.fuzz import __main__ as runner
from tests.fuzz import corpus, requests
from tests.fuzz.targets import TARGETS
from wsaas import proxy_protocol
from wsaas.delivery import connect_answer, message_answer
from wsaas.delivery.webhook import Subject
from wsaas.http.request import Request
from wsaas.http.response import Response, ResponseParser
from wsaas.websocket import decoder as framing
from wsaas.websocket import handshake
from wsaas.websocket.deflate import Inflater

INPUTS = [(name, path) for name in TARGETS for path in corpus.inputs(name)]


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}-{path.name}" for name, path in INPUTS])
def test_an_input_of_the_corpus_passes(name, path):
    TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_has_a_few_small_inputs(name):
    kept = corpus.inputs(name)
    assert 10 <= len(kept) <= corpus.MAX_INPUTS
    assert sum(path.stat().st_size for path in kept) < 50_000


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0", b"\xff" * 100])
def test_a_target_takes_any_bytes(name, data):
    TARGETS[name](data)


def test_the_runner_knows_every_target():
    assert list(TARGETS) == runner.NAMES


# Planted faults. A target without findings may be unable to find any.


def forget_masks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(framing, "unmask", lambda payload, _mask: payload)


def take_any_text(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(framing, "valid_text", lambda _data: True)
    patch.setattr(message_answer, "valid_text", lambda _data: True)


def inflate_without_end(patch: pytest.MonkeyPatch) -> None:
    start = Inflater.__init__
    patch.setattr(Inflater, "__init__", lambda self, _limit: start(self, 1 << 40))


def change_requests(patch: pytest.MonkeyPatch, change: Callable[[Request], None]) -> None:
    def feed(reader: Any, data: bytes) -> list[Any]:
        items = plain_feed(reader, data)
        for item in items:
            if isinstance(item, Request):
                change(item)
        return items

    plain_feed = requests.feed
    patch.setattr(requests, "feed", feed)


def lose_the_end_of_bodies(patch: pytest.MonkeyPatch) -> None:
    def change(request: Request) -> None:
        request.body = request.body[:-1]

    change_requests(patch, change)


def keep_every_connection(patch: pytest.MonkeyPatch) -> None:
    def change(request: Request) -> None:
        request.keep_alive = True

    change_requests(patch, change)


def change_responses(patch: pytest.MonkeyPatch, change: Callable[[Response], None]) -> None:
    def feed(self: ResponseParser, data: bytes) -> Response | None:
        response = plain_feed(self, data)
        if response is not None:
            change(response)
        return response

    plain_feed = ResponseParser.feed
    patch.setattr(ResponseParser, "feed", feed)


def lose_the_end_of_answers(patch: pytest.MonkeyPatch) -> None:
    def change(response: Response) -> None:
        response.body = response.body[:-1]

    change_responses(patch, change)


def trust_every_connection(patch: pytest.MonkeyPatch) -> None:
    def change(response: Response) -> None:
        response.keep_alive = True

    change_responses(patch, change)


def end_lines_in_authorization(patch: pytest.MonkeyPatch) -> None:
    def start(self: Subject, connection_id: str, ws_uri: str, authorization: bytes | None) -> None:
        plain_start(self, connection_id, ws_uri, authorization and authorization.replace(b" ", b"\r\n"))

    plain_start = Subject.__init__
    patch.setattr(Subject, "__init__", start)


def take_any_key(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handshake, "_KEY", re.compile(rb".*"))


def remember_anything(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(connect_answer, "valid_context", lambda context: isinstance(context, str))


def take_any_port(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proxy_protocol, "_PORT", re.compile(rb"[0-9]+"))


def passes(name: str, data: bytes) -> bool:
    try:
        TARGETS[name](data)
    except Exception:  # noqa: BLE001 - a finding may be any exception
        return False
    return True


FAULTS = [
    ("frames", forget_masks),
    ("frames", take_any_text),
    ("frames", inflate_without_end),
    ("requests", lose_the_end_of_bodies),
    ("requests", keep_every_connection),
    ("responses", lose_the_end_of_answers),
    ("responses", trust_every_connection),
    ("handshakes", end_lines_in_authorization),
    ("handshakes", take_any_key),
    ("verdicts", remember_anything),
    ("verdicts", take_any_text),
    ("proxy_headers", take_any_port),
]


@pytest.mark.pure  # replaces functions within compiled modules
@pytest.mark.parametrize(("name", "plant"), FAULTS, ids=[f"{name}-{plant.__name__}" for name, plant in FAULTS])
def test_the_corpus_finds_a_planted_fault(monkeypatch, name, plant):
    plant(monkeypatch)
    assert not all(passes(name, path.read_bytes()) for path in corpus.inputs(name))


# The runner


def test_the_runner_is_skipped_without_a_fuzzer(monkeypatch, capsys):
    monkeypatch.setattr(runner, "find_spec", lambda _name: None)
    assert runner.main([]) == 0
    assert capsys.readouterr().out.startswith("fuzz: SKIPPED")


def test_the_runner_rejects_an_unknown_target(capsys):
    with pytest.raises(SystemExit):
        runner.main(["nothing"])
    assert "no target: nothing" in capsys.readouterr().err


@pytest.mark.pure  # measures the coverage of Python code
def test_the_kept_inputs_cover_what_all_inputs_cover(monkeypatch, tmp_path):
    monkeypatch.setattr(corpus, "HERE", tmp_path)
    kept, grown = corpus.folder("verdicts"), tmp_path / "grown"
    kept.mkdir(parents=True)
    grown.mkdir()
    (kept / "0123456789ab").write_bytes(b"\x01no JSON, and longer than it has to be")
    for number, data in enumerate([b'\x01{"code": "OK"}', b'\x01{"code": "NO"}', b"\x01no JSON", b"\x01[]", b"\x01{}"]):
        (grown / str(number)).write_bytes(data)
    corpus.keep("verdicts", grown)
    left = {path.read_bytes() for path in corpus.inputs("verdicts")}
    assert b'\x01{"code": "OK"}' in left
    assert b"\x01no JSON, and longer than it has to be" not in left
    assert len(left) < 5
