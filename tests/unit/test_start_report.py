"""The log lines at the start: the start line, and warnings about addresses that cannot be right."""

import logging

import pytest

from tests.support.fakes import make_settings
from wsaas import __version__
from wsaas.build_kind import BUILD
from wsaas.setting_types import Address
from wsaas.start_report import log_start, start_warnings
from wsaas.transport.listener import is_this_machine


@pytest.fixture
def start_line(caplog):
    """Return a function that logs a start, and returns the line and its fields."""

    def log(settings, addresses):
        with caplog.at_level(logging.INFO):
            log_start(settings, addresses)
        record = caplog.records.pop()
        return record.getMessage(), record.args

    return log


def test_the_start_line_of_one_listener(start_line):
    settings = make_settings(api_uri="backend:8000/hook", ws_hostname="https://ws.example.com/hub")
    line, fields = start_line(settings, [Address("", 8080)])
    assert line == (
        f"wsaas {__version__} ({BUILD}) listening on *:8080 for clients and REST requests; "
        "API_URI=http://backend:8000/hook WS_HOSTNAME=https://ws.example.com/hub JOURNAL=none CLUSTER=none WORKERS=1"
    )
    assert fields == {
        "event": "started",
        "version": __version__,
        "build": BUILD,
        "listen": "*:8080",
        "control_listen": "*:8080",
        "tls": False,
        "api_uri": "http://backend:8000/hook",
        "ws_hostname": "https://ws.example.com/hub",
        "journal": "none",
        "cluster": "none",
        "workers": 1,
    }


def test_the_start_line_of_two_listeners(start_line):
    settings = make_settings(api_uri="https://[::1]/{id}", tls_cert="/cert", tls_key="/key", journal="/var/100%")
    line, fields = start_line(settings, [Address("fe80::1%eth0", 443), Address(path="/run/rest.sock")])
    assert line == (
        f"wsaas {__version__} ({BUILD}) listening on [fe80::1%eth0]:443 with TLS for clients, "
        "listening on unix:/run/rest.sock with TLS for REST requests; "
        "API_URI=https://[::1]/{id} WS_HOSTNAME=localhost:8080 JOURNAL=/var/100% CLUSTER=none WORKERS=1"
    )
    assert (fields["listen"], fields["control_listen"]) == ("[fe80::1%eth0]:443", "unix:/run/rest.sock")
    assert fields["tls"] is True


@pytest.mark.parametrize(
    ("tls", "clients", "rest"),
    [
        ({}, " with the PROXY protocol", ""),
        ({"tls_cert": "/cert", "tls_key": "/key"}, " with TLS and the PROXY protocol", " with TLS"),
    ],
)
def test_the_start_line_says_where_clients_come_through_a_proxy(start_line, tls, clients, rest):
    settings = make_settings(proxy_protocol="on", trusted_proxies="10.0.0.1", **tls)
    line, _ = start_line(settings, [Address("", 443), Address("127.0.0.1", 8080)])
    assert (
        f" listening on *:443{clients} for clients, listening on 127.0.0.1:8080{rest} for REST requests; API_URI="
        in line
    )
    line, _ = start_line(settings, [Address("", 443)])
    assert f" listening on *:443{clients} for clients and REST requests; API_URI=" in line


def test_the_start_line_names_the_socket_of_the_backend(start_line):
    line, fields = start_line(make_settings(api_uri="unix:/run/app.sock:/hook?key=s3cret"), [Address("", 1)])
    assert " API_URI=unix:/run/app.sock:/hook?(hidden) " in line
    assert fields["api_uri"] == "unix:/run/app.sock:/hook?(hidden)"


def test_the_start_line_names_the_cluster_without_its_credentials(start_line):
    chosen = {"cluster": "nats://me:s3cret@one,tls://s3cret@two:4223", "node_address": "10.0.0.5:8081"}
    line, fields = start_line(make_settings(**chosen), [Address("", 8080)])
    assert " CLUSTER=nats://one:4222,tls://two:4223 " in line
    assert "s3cret" not in f"{line}{fields}"


def test_the_query_of_the_backend_is_hidden(start_line):
    line, _ = start_line(make_settings(api_uri="backend/hook?key=s3cret&x=y"), [Address("", 1)])
    assert "API_URI=http://backend/hook?(hidden) " in line
    assert "s3cret" not in line


def warnings(name, rest, own=("localhost", "127.0.0.1", "::1", "10.0.0.5"), **chosen):
    """Return the warnings of a node that serves REST requests on `rest`, on a machine with the addresses `own`."""
    return start_warnings(make_settings(ws_hostname=name, **chosen), rest, own.__contains__)


LOCAL = Address("127.0.0.1", 8080)


@pytest.mark.parametrize("text", ["0.0.0.0:8080", "http://0.0.0.0:9000/x", "[::]:8080", "https://[0:0::0]"])
@pytest.mark.parametrize("rest", [LOCAL, Address(path="/run/rest.sock")])
def test_an_unspecified_public_name_causes_a_warning(text, rest):
    (warning,) = warnings(text, rest)
    assert warning.startswith(f"WS_HOSTNAME={text} is the start of every ws_uri, but ")
    assert f"nobody can connect to {make_settings(ws_hostname=text).ws_hostname.host}: set WS_HOSTNAME to" in warning


@pytest.mark.parametrize("text", ["localhost:9000", "127.0.0.1:9000", "http://[::1]:9000/hub", "10.0.0.5:9000"])
def test_another_port_of_this_machine_causes_a_warning(text):
    (warning,) = warnings(text, LOCAL)
    assert warning == (
        f"WS_HOSTNAME={text} is the start of every ws_uri, but this node serves REST requests on 127.0.0.1:8080: set "
        "the port of WS_HOSTNAME to 8080, unless a proxy or a port mapping forwards 9000 to it"
    )


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("localhost:8080", LOCAL),
        ("10.0.0.5:8080", Address("10.0.0.5", 8080)),
        ("ws.example.com", LOCAL),
        ("https://ws.example.com/hub", LOCAL),
        ("10.0.0.6:9000", LOCAL),
        ("nowhere.invalid:9000", LOCAL),
        ("localhost:9000", Address(path="/run/rest.sock")),
    ],
)
def test_a_name_that_may_be_correct_causes_no_warning(text, rest):
    assert warnings(text, rest, control_token="x") == []


@pytest.mark.parametrize("text", ["localhost:8080", "http://10.0.0.5:8080"])
def test_a_name_without_https_causes_a_warning(text):
    (warning,) = warnings(text, LOCAL, tls_cert="/cert", tls_key="/key")
    host = text.removeprefix("http://").removesuffix(":8080")
    assert warning == (
        f"WS_HOSTNAME={text} is the start of every ws_uri, but this node serves REST requests over TLS only: "
        f"write https:// before {host}"
    )
    for right in ("https://localhost:8080", "ws.example.com:8080"):
        assert warnings(right, LOCAL, tls_cert="/cert", tls_key="/key") == []


def test_a_cookie_that_any_page_can_use_causes_a_warning():
    (warning,) = warnings("localhost:8080", LOCAL, browser_authorization="query:a,cookie:session")
    assert warning == (
        "BROWSER_AUTHORIZATION names a cookie, so a page of any web site can connect as the user who visits it: "
        "set ALLOWED_ORIGINS, unless the backend checks the origin"
    )
    own = {"allowed_origins": "https://example.com", "browser_authorization": "cookie:session"}
    assert warnings("localhost:8080", LOCAL, **own) == []
    assert warnings("localhost:8080", LOCAL, browser_authorization="query:a,subprotocol:b") == []


def test_a_backend_that_is_this_node_causes_a_warning():
    (warning,) = warnings("localhost:8080", LOCAL, api_uri="localhost:8080/hook?key=s3cret")
    assert warning == "API_URI=http://localhost:8080/hook?(hidden) is the address of this node: set it to your backend"
    assert warnings("localhost:8080", LOCAL, api_uri="backend:8080/hook") == []
    assert warnings("localhost:8080", Address(path="/run/rest.sock"), api_uri="localhost:8080/hook") == []
    assert warnings("localhost:80", Address("127.0.0.1", 80), api_uri="unix:/run/app.sock:/hook") == []
    assert warnings("localhost:8080", Address(path="/run/rest.sock"), api_uri="unix:/run/app.sock:/hook") == []
    (warning,) = warnings("localhost:8080", Address(path="/run/rest.sock"), api_uri="unix:/run/rest.sock:/hook")
    assert warning == "API_URI=unix:/run/rest.sock:/hook is the address of this node: set it to your backend"


def test_an_open_rest_api_causes_a_warning():
    everywhere = Address("", 8080)
    assert warnings("localhost:8080", everywhere) == [
        "anybody who reaches *:8080 can push to clients, so there is no console: set CONTROL_TOKEN, or CONTROL_LISTEN"
    ]
    assert warnings("localhost:8080", everywhere, control_token="x") == []


@pytest.mark.parametrize("rest", [LOCAL, Address("", 8080)])
def test_access_keys_alone_cause_a_warning_as_they_close_everything_else(rest):
    refused = "CONTROL_AWS_KEYS is only for requests with /@connections/: all others are refused"
    advice = "set CONTROL_TOKEN to make other requests, too"
    keys = {"control_aws_keys": "id:secret"}
    assert warnings("localhost:8080", rest, **keys) == [f"{refused}, so there is no console: {advice}"]
    assert warnings("localhost:8080", rest, **keys, console="off") == [f"{refused}: {advice}"]
    assert warnings("localhost:8080", rest, **keys, control_token="x") == []


def test_access_keys_of_azure_cause_the_same_warning():
    keys = {"event_format": "azure", "control_azure_keys": "key"}
    refused = "CONTROL_AZURE_KEYS is only for requests below /api/hubs: all others are refused"
    assert warnings("localhost:8080", LOCAL, **keys, console="off") == [
        f"{refused}: set CONTROL_TOKEN to make other requests, too"
    ]
    assert warnings("localhost:8080", LOCAL, **keys, control_token="x") == []


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", True),
        ("203.0.113.1", False),
        ("2001:db8::1", False),
        ("example.com", False),
    ],
)
def test_addresses_of_this_machine_are_recognized(host, own):
    assert is_this_machine(host) is own


CLUSTER = {"cluster": "nats://localhost", "node_address": "10.0.0.5:8081"}


def test_a_node_that_others_cannot_reach_causes_a_warning():
    (warning,) = warnings("10.0.0.6:8080", LOCAL, **CLUSTER, control_token="x")
    assert warning == (
        "NODE_ADDRESS=10.0.0.5:8081 is where other nodes reach this one, but it serves REST requests on "
        "127.0.0.1:8080: set CONTROL_LISTEN, unless a proxy on this machine forwards them"
    )


def test_a_node_without_a_token_causes_a_warning_if_others_reach_it():
    advice = "can push to clients: set CONTROL_TOKEN, the same for all nodes"
    everywhere, chosen = Address("", 8081), {**CLUSTER, "console": "off"}
    assert warnings("10.0.0.6:8080", everywhere, **chosen) == [f"anybody who reaches *:8081 {advice}"]
    behind_a_proxy = warnings("10.0.0.6:8080", LOCAL, **chosen)
    assert behind_a_proxy[0] == f"anybody who reaches NODE_ADDRESS=10.0.0.5:8081 {advice}"
    chosen["node_address"] = "localhost:8080"
    assert warnings("10.0.0.6:8080", LOCAL, **chosen) == []


def test_a_node_that_others_reach_by_tls_only_causes_a_warning():
    chosen = {**CLUSTER, "control_token": "x", "tls_cert": "/c", "tls_key": "/k"}
    (warning,) = warnings("https://10.0.0.6:8080", Address("10.0.0.5", 8081), **chosen)
    assert warning == (
        "NODE_ADDRESS=10.0.0.5:8081 is where other nodes reach this one, but it serves REST requests over TLS only: "
        "write https:// before 10.0.0.5"
    )
    chosen["node_address"] = "https://10.0.0.5:8081"
    assert warnings("https://10.0.0.6:8080", Address("10.0.0.5", 8081), **chosen) == []
