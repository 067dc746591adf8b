"""Who may use the console, and requests that arrive in pieces."""

import pytest

from tests.support.console_rig import ConsoleRig
from wsaas.access import from_own_page
from wsaas.http.request import RejectedRequest, RequestParser


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({}, True),
        ({"origin": "http://node:81"}, True),
        ({"origin": "HTTP://NODE:81"}, True),
        ({"origin": "https://node:81"}, True),
        ({"origin": "http://node"}, False),
        ({"origin": "http://node:81.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "None"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://node:81"}, False),
    ],
)
def test_the_own_page_has_the_origin_of_the_host(headers, is_own):
    found = {name.encode(): value.encode() for name, value in {"host": "Node:81", **headers}.items()}
    assert from_own_page(found, has_tls=False) is is_own
    has_http = headers.get("origin", "").lower().startswith("http://")
    assert from_own_page(found, has_tls=True) is (is_own and not has_http)


def test_a_request_without_a_host_has_no_own_page():
    assert not from_own_page({b"origin": b"http://"}, has_tls=True)


def test_a_client_certificate_is_enough():
    rig = ConsoleRig(control_tls_ca="/ca", tls_cert="/c", tls_key="/k")
    path = "/console/api/node"
    # A proxy may have changed the Host.
    assert rig.ask("GET", path, "Origin: https://page.example", "Sec-Fetch-Site: same-origin", host="any").status == 200
    assert rig.ask("GET", path, "X-Real-IP: 192.0.2.7", host="any").status == 200
    assert rig.raw("GET", "/console", host="any").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_client_certificate_is_not_enough_for_other_pages(site):
    rig = ConsoleRig(control_tls_ca="/ca", tls_cert="/c", tls_key="/k")
    assert rig.ask("GET", "/console/api/connects/events", f"Sec-Fetch-Site: {site}", host="any").status == 403


@pytest.mark.parametrize(
    "header", ["Via: 1.1 a", "X-Real-IP: 192.0.2.7", "X-Forwarded-Host: a", "X-Forwarded-Proto: a"]
)
def test_without_a_token_no_proxy_may_pass_a_request_on(header):
    rig = ConsoleRig()
    for path in ("/console", "/console/api/node"):
        assert rig.raw("GET", path).startswith(b"HTTP/1.1 200")
        assert rig.raw("GET", path, header).startswith(b"HTTP/1.1 403")


def test_a_token_is_needed_by_everybody():
    rig = ConsoleRig(control_token="s3cret")
    assert rig.ask("GET", "/console/api/node", host="any").said == (401, "UNAUTHORIZED")
    assert rig.ask("GET", "/console/api/node", "Authorization: Bearer s3cret", host="any").status == 200
    assert rig.raw("GET", "/console", host="any").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("path", "is_authorized"),
    [("/console", False), ("/console/api/node", True), ("/nothing", True), ("/healthz", False)],
)
def test_the_page_does_not_show_that_a_caller_is_authorized(path, is_authorized):
    rig = ConsoleRig()
    assert rig.api.authorizes(rig.request("GET", path)) is is_authorized
    assert not rig.api.authorizes(rig.request("GET", path, host="other.example"))


def test_the_page_of_the_console_is_served():
    head, _, body = ConsoleRig().raw("GET", "/console").partition(b"\r\n\r\n")
    assert b"Content-Security-Policy: default-src 'none'" in head
    assert b"X-Content-Type-Options: nosniff" in head
    assert body.startswith(b"<!doctype html>")


def test_the_body_of_a_replay_is_bounded():
    rig = ConsoleRig()
    parser = RequestParser(10**6, rig.api.body_limit)
    target = f"/console/api/connections/{rig.session.id}/replay".encode()
    parser.receive(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1025\r\n\r\n" % target)
    rejected = parser.next()
    assert isinstance(rejected, RejectedRequest)
    assert rejected.error.status == 413
