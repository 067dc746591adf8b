"""Tests of the log lines about requests to the backend that failed."""

from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import FakeBreaker, FakePool, make_closed, make_opened
from wsaas.delivery.failure_report import EXCERPT_LENGTH, EXCERPT_SOURCE, Excerpt, advice
from wsaas.delivery.pool import Failure
from wsaas.delivery.webhook import Webhook
from wsaas.events import Message
from wsaas.http.response import Response
from wsaas.settings import load

POST, PUT, DELETE = make_opened(), Message(True, b"hi", 0.0, 1), make_closed()

DJANGO = b"""<!DOCTYPE html>
<html lang="en">
<head><title>403 Forbidden</title><style type="text/css">html * { padding:0; }</style></head>
<body><!-- a comment
of two lines --><div id="summary">
  <h1>Forbidden <span>(403)</span></h1>
  <p>CSRF verification failed. Request aborted.</p>
</div></body></html>"""


def response(status, body=b"", **headers):
    made = Response(status, {name.replace("_", "-").encode(): value for name, value in headers.items()})
    made.body = body
    return made


def logged(caplog, event, answer, uri="localhost:8000/hook?key=secret", **settings):
    """Return the level and the text of the log line about `answer`, None if there is none."""
    caplog.set_level("INFO", "wsaas")
    Webhook(load({"api_uri": uri, **settings}, {}), FakePool(), FakeBreaker(), lambda: 0.0).judge(event, answer)
    if not caplog.records:
        return None
    (record,) = caplog.records
    return record.levelname, record.getMessage()


@pytest.mark.parametrize(
    ("event", "answer", "level", "text"),
    [
        (
            POST,
            response(301, location=b"https://example.com/hook"),
            "WARNING",
            (
                "POST /hook: the backend answered 301; a client was refused with 502; redirects are not followed: "
                "API_URI has to name https://example.com/hook directly"
            ),
        ),
        (
            POST,
            response(302),
            "WARNING",
            (
                "POST /hook: the backend answered 302; a client was refused with 502; redirects are not followed: "
                "API_URI has to name the final address directly"
            ),
        ),
        (
            POST,
            response(200, b"<h1>Hello</h1>", content_type=b"text/html"),
            "WARNING",
            (
                "POST /hook: the backend answered 200 with a body that is not JSON such as "
                '{"code": "OK"}: \'Hello\'; a client was refused with 502'
            ),
        ),
        (
            POST,
            response(200, b'{"code":"OK","subprotocol":7}'),
            "WARNING",
            (
                "POST /hook: the backend answered 200 with a subprotocol that is not a string: "
                """'{"code":"OK","subprotocol":7}'; a client was refused with 502"""
            ),
        ),
        (
            POST,
            response(403, DJANGO, content_type=b"text/html; charset=utf-8"),
            "WARNING",
            (
                "POST /hook: the backend answered 403: 'Forbidden (403) CSRF verification failed. Request aborted.'; "
                "a client was refused with 403; if the backend checks CSRF tokens, exempt this path; the Host may be "
                "one that it does not allow"
            ),
        ),
        (
            POST,
            response(415),
            "WARNING",
            (
                "POST /hook: the backend answered 415; a client was refused with 502; text messages are sent as "
                "TEXT_CONTENT_TYPE, binary ones as application/octet-stream, POST and DELETE as application/json"
            ),
        ),
        (
            POST,
            response(500, b"Traceback"),
            "WARNING",
            (
                "POST /hook: the backend answered 500: 'Traceback'; a client was refused with 502; "
                "see the log of the backend, or of a proxy in front of it"
            ),
        ),
        (
            POST,
            response(418),
            "WARNING",
            "POST /hook: the backend answered 418; a client was refused with 502",
        ),
        (
            POST,
            response(200, b'{"code":"ok"}'),
            "WARNING",
            (
                """POST /hook: the backend answered 200: '{"code":"ok"}'; a client was refused with 403; """
                'only {"code": "OK"}, in capitals, accepts a client'
            ),
        ),
        (
            POST,
            response(200, b'{"code":"BANNED"}'),
            "INFO",
            """POST /hook: the backend answered 200: '{"code":"BANNED"}'; a client was refused with 403""",
        ),
        (
            POST,
            response(401),
            "INFO",
            (
                "POST /hook: the backend answered 401; a client was refused with 401; "
                "the handshake's Authorization is passed on unchanged"
            ),
        ),
        (
            PUT,
            response(500, b"  KeyError:\n\t'user'  "),
            "WARNING",
            (
                "PUT /hook: the backend answered 500: \"KeyError: 'user'\"; the request is sent again for up to 30 s; "
                "see the log of the backend, or of a proxy in front of it"
            ),
        ),
        (
            PUT,
            response(404, b"Not Found"),
            "WARNING",
            (
                "PUT /hook: the backend answered 404: 'Not Found'; the client is closed with 1011; "
                "check the path in API_URI"
            ),
        ),
        (
            PUT,
            response(200, b"hi", ws_reply=b"json"),
            "WARNING",
            ("PUT /hook: the backend's Ws-Reply is 'json', neither text nor binary; the client is closed with 1011"),
        ),
        (
            DELETE,
            response(405),
            "WARNING",
            (
                "DELETE /hook: the backend answered 405; the request is sent again for up to 300 s; "
                "the backend has to support POST, PUT and DELETE at the path in API_URI"
            ),
        ),
    ],
)
def test_an_answer_that_is_wrong_is_logged_with_what_is_wrong_and_what_to_do(caplog, event, answer, level, text):
    assert logged(caplog, event, answer) == (level, text)


@pytest.mark.parametrize(
    ("event_format", "status", "advice"),
    [
        ("aws", 405, "the backend has to support POST at the path in API_URI"),
        ("aws", 415, "all events are sent as application/json"),
        ("azure", 501, "the backend has to support POST at the path in API_URI"),
        (
            "azure",
            415,
            (
                "text messages are sent as TEXT_CONTENT_TYPE, binary ones as application/octet-stream, other events as "
                "application/json"
            ),
        ),
        ("azure", 404, "check the path in API_URI"),
    ],
)
def test_the_advice_fits_the_format(caplog, event_format, status, advice):
    _, text = logged(caplog, POST, response(status), event_format=event_format)
    assert text.endswith(f"; {advice}")


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (POST, response(200, b'{"code":"OK"}')),
        (PUT, response(200)),
        (PUT, response(204, ws_reply=b"text")),
        (DELETE, response(200)),
        (DELETE, response(404)),
        # Logged by the pool, which knows more about it.
        (POST, Failure.TIMED_OUT),
        (PUT, Failure.UNREACHABLE),
    ],
)
def test_a_correct_answer_or_none_is_not_logged(caplog, event, answer):
    assert logged(caplog, event, answer) is None


@pytest.mark.parametrize(("event", "method"), [(PUT, "PUT"), (DELETE, "DELETE")])
def test_a_request_that_is_not_retried_is_not_said_to_be_sent_again(caplog, event, method):
    _, text = logged(caplog, event, response(500), api_retry="0")
    assert text == (
        f"{method} /hook: the backend answered 500; it is not sent again, as API_RETRY is 0; "
        "see the log of the backend, or of a proxy in front of it"
    )


def test_the_path_is_logged_with_the_id_placeholder(caplog):
    _, text = logged(caplog, POST, response(404), "localhost:8000/clients/{id}/hook")
    assert text.startswith("POST /clients/{id}/hook: the backend answered 404; ")


def test_a_long_answer_is_quoted_up_to_a_limit():
    quoted = str(Excerpt(response(500, b"abc " * 10_000)))
    assert quoted == f": '{('abc ' * 100)[: EXCERPT_LENGTH - 3]}...'"


def test_only_the_start_of_an_answer_is_kept_for_the_log():
    assert Excerpt(response(500, b"x" * 1_000_000))._body == b"x" * EXCERPT_SOURCE


def test_a_binary_answer_is_quoted_on_one_line():
    assert str(Excerpt(response(500, b"\x00\xff\r\nInjected: 1"))) == ": '\\x00\ufffd Injected: 1'"


def test_credentials_are_hidden():
    said = b"{'Authorization': 'Bearer abc.def-ghi', \"also\": \"basic  QWxhZGRpbg==\"} for Bearer klm.nop"
    quoted = str(Excerpt(response(500, said)))
    assert "Authorization\\': (hidden)" in quoted
    assert "basic (hidden)" in quoted
    assert "Bearer (hidden)" in quoted
    assert not {"abc", "QWx", "klm"} & {quoted[at : at + 3] for at in range(len(quoted))}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"Moved. Redirecting to https://x.example/hook?key=SECRET", "Redirecting to https://x.example/hook?(hidden)"),
        (b"GET /hook?SECRET HTTP/1.1", "GET /hook?(hidden) HTTP/1.1"),
        (b"Authorization: Token SECRET\r\nHost: x", "Authorization: (hidden) Host: x"),
        (b"cookie: a=SECRET; b=SECRET\nHost: x", "cookie: (hidden) Host: x"),
        (b'{"headers":{"cookie":"a=\\"SECRET\\"; b","host":"x"}}', '"cookie":(hidden),"host":"x"'),
        (b'{"path":"/","query":"jwt=SECRET&b=SECRET","id":1}', '"query":(hidden),"id":1'),
        (b"{'Sec-WebSocket-Protocol': 'bearer.SECRET, chat', 'a': 1}", "'Sec-WebSocket-Protocol': (hidden), 'a': 1"),
        (b'{"access_token": "SECRET', '{"access_token": (hidden)'),
        (b"access_token=SECRET&x=1", "access_token=(hidden)&x=1"),
        (b"X-Api-Key: SECRET\nHost: x", "X-Api-Key: (hidden) Host: x"),
        (b"postgres://app:SECRET@db.internal/app refused", "postgres://(hidden)@db.internal/app refused"),
        (b"KeyError: 'user'", "KeyError: 'user'"),
        (b"CSRF token missing. Really? Yes: token expired", "CSRF token missing. Really? Yes: token expired"),
    ],
)
def test_secrets_are_hidden_in_every_notation(said, shown):
    quoted = str(Excerpt(response(500, said)))
    assert "SECRET" not in quoted
    assert shown in quoted.replace("\\'", "'")


def test_the_secrets_in_a_location_are_hidden_and_it_is_truncated():
    text = advice(response(301, location=b"https://me:SECRET@x.example/hook?key=SECRET"))
    assert text == "; redirects are not followed: API_URI has to name https://(hidden)@x.example/hook?(hidden) directly"
    assert len(advice(response(301, location=b"/" + b"a" * 10_000))) < 2 * EXCERPT_LENGTH


@pytest.mark.parametrize(
    "body",
    [b"?", b"cookie", b"token ", b"a?", b"authorization:", b"//", b"http://a", b'"token":"', b"key=", b"bearer "],
)
def test_no_answer_takes_long_to_quote(body):
    begin = thread_time()
    str(Excerpt(response(500, (body * EXCERPT_SOURCE)[:EXCERPT_SOURCE])))
    assert thread_time() - begin < 0.1


def test_html_that_is_cut_off_within_a_tag_or_a_script_is_not_shown():
    assert str(Excerpt(response(500, b"<p>Oh no</p><script>var a = 1;"))) == ": 'Oh no'"
    assert str(Excerpt(response(500, b"<p>Oh no</p><img src='"))) == ": 'Oh no'"
    assert str(Excerpt(response(500, b"<p>Oh no</p><!-- x"))) == ": 'Oh no'"
    assert str(Excerpt(response(500, b"<html></html>"))) == ""


@given(st.binary(max_size=300), st.sampled_from([b"text/html", b"text/plain", b""]))
def test_any_answer_can_be_quoted_on_one_printable_line(body, content_type):
    quoted = str(Excerpt(response(500, body, content_type=content_type)))
    assert "\n" not in quoted
    assert len(quoted.encode("unicode_escape")) < 20 * EXCERPT_LENGTH


@given(st.integers(100, 999), st.binary(max_size=100))
def test_any_answer_has_some_advice_or_none(status, body):
    text = advice(response(status, body))
    assert not text or text.startswith("; ")
