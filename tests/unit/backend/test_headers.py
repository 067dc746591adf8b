from email.message import Message

import pytest

from wsaas.backend.headers import lower_names, wsgi_headers

HEADERS = {"ws-uri": "localhost:8080/id", "content-type": "text/plain"}


def email_headers():
    """Return headers as `http.server` has them."""
    message = Message()
    message["Ws-Uri"] = "localhost:8080/id"
    message["Content-Type"] = "text/plain"
    return message


@pytest.mark.parametrize(
    "headers",
    [
        {"Ws-Uri": "localhost:8080/id", "Content-Type": "text/plain"},
        [("WS-URI", "localhost:8080/id"), ("content-type", "text/plain")],
        [(b"ws-uri", b"localhost:8080/id"), (b"content-type", b"text/plain")],
        email_headers(),
        wsgi_headers({"HTTP_WS_URI": "localhost:8080/id", "CONTENT_TYPE": "text/plain", "wsgi.version": (1, 0)}),
    ],
    ids=["mapping", "pairs", "ASGI", "http.server", "WSGI"],
)
def test_headers_may_come_in_any_form(headers):
    assert lower_names(headers) == HEADERS


def test_the_headers_of_django_are_read_in_both_of_their_forms():
    from django.http.request import HttpHeaders  # noqa: PLC0415 - takes long

    meta = {"HTTP_WS_URI": "localhost:8080/id", "CONTENT_TYPE": "text/plain", "REQUEST_METHOD": "PUT"}
    assert lower_names(HttpHeaders(meta)) == HEADERS
    assert wsgi_headers(meta) == HEADERS


def test_values_of_a_repeated_header_are_joined_so_that_none_of_them_is_overlooked():
    assert lower_names([("a", "1"), ("A", "2"), ("b", "3")]) == {"a": "1, 2", "b": "3"}


def test_bytes_are_read_as_latin_1_as_frameworks_do():
    assert lower_names([(b"authorization", b"Basic \xe9")]) == {"authorization": "Basic \xe9"}


def test_a_wsgi_environment_has_its_content_type_only_if_there_is_one():
    assert wsgi_headers({"CONTENT_TYPE": "", "CONTENT_LENGTH": "2", "REQUEST_METHOD": "PUT"}) == {"content-length": "2"}
