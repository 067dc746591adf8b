import argparse
import os
from base64 import b64encode
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import make_settings
from tests.support.strategies import examples
from wsaas import settings as settings_module
from wsaas.access import ANY_ORIGIN, COOKIE, QUERY, Origins, Proxies, TokenPlace
from wsaas.backend_setting_type import Backend
from wsaas.errors import SettingError
from wsaas.message_setting_types import Heartbeat
from wsaas.setting_types import Address, PublicName
from wsaas.settings import (
    MAX_SECRET_FILE_SIZE,
    Settings,
    add_flags,
    control_address,
    has_console,
    listen_address,
    load,
    of_worker,
    read_secret,
    variable,
)

API_URI = "localhost:80/websocket"
NAMES = [setting.name for setting in fields(Settings)]
MILLISECONDS = [
    "ws_timeout",
    "api_retry",
    "drain_timeout",
    "max_connections",
    "max_connections_per_address",
    "max_message_rate",
]
TIMES = {"ws_timeout", "api_retry", "drain_timeout", "api_timeout", "handshake_timeout", "keep_alive_timeout"}
POSITIVE = [
    "api_timeout",
    "api_connections",
    "max_message_size",
    "max_owed_disconnects",
    "send_buffer",
    "inbox",
    "handshake_timeout",
    "keep_alive_timeout",
]


def given_as_variables(**values: str) -> Settings:
    return load({}, {name.upper(): value for name, value in ({"api_uri": API_URI} | values).items()})


def given_as_flags(**values: str) -> Settings:
    return load({"api_uri": API_URI} | values, {})


def value_of(name: str, text: str):
    value = getattr(given_as_variables(**{name: text}), name)
    assert getattr(given_as_flags(**{name: text}), name) == value
    return value


def refusal(name: str, text: str) -> str:
    """Return the one-line error for the value `text` of the setting `name`."""
    with pytest.raises(SettingError) as raised:
        given_as_flags(**{name: text})
    with pytest.raises(SettingError) as again:
        given_as_variables(**{name: text})
    message = str(raised.value)
    assert message == str(again.value)
    assert message.isprintable()
    return message


def shown(text: str) -> str:
    """Return a refused value as the error shows it: a user and password before an @ are hidden."""
    before, at, behind = text.rpartition("@")
    scheme, slashes, _ = before.partition("//")
    return repr(f"{scheme + slashes if slashes else ''}(hidden)@{behind}" if at else text)


# Where values come from


def test_defaults_are_those_of_the_contract():
    settings = load({}, {"API_URI": API_URI})
    assert settings == Settings(
        api_uri=Backend("http", "localhost", 80, "/websocket"),
        ws_hostname=PublicName("localhost:8080", "localhost", 8080, ""),
        log_level="INFO",
        log_format="text",
        access_log=True,
        ws_timeout=30,
        heartbeat=None,
        workers=1,
        listen=None,
        control_listen=None,
        control_token=(),
        control_token_file=None,
        console=True,
        azure_hub="hub",
        control_azure_keys=(),
        control_azure_keys_file=None,
        control_aws_keys=(),
        control_aws_keys_file=None,
        api_secret=(),
        api_secret_file=None,
        max_connections_per_address=0,
        max_message_rate=0,
        compression=False,
        tls_cert=None,
        tls_key=None,
        control_tls_ca=None,
        api_tls_ca=None,
        trusted_proxies=Proxies(),
        proxy_protocol=False,
        api_timeout=10,
        api_retry=30,
        api_connections=128,
        api_connection_age=300,
        text_content_type="text/plain; charset=utf-8",
        event_format="native",
        aws_route_selection=("action",),
        aws_route_responses=False,
        max_message_size=1_048_576,
        max_connections=0,
        max_memory=None,
        max_owed_disconnects=100_000,
        max_groups=64,
        max_publishes=100,
        max_batch_size=1_048_576,
        send_buffer=1_048_576,
        inbox=262_144,
        handshake_timeout=10,
        keep_alive_timeout=75,
        drain_timeout=30,
        allowed_origins=ANY_ORIGIN,
        subprotocols=(),
        browser_authorization=(),
        listen_mode=0o666,
        journal=None,
        journal_sync="normal",
        cluster=(),
        cluster_name="wsaas",
        cluster_credentials=None,
        cluster_tls_ca=None,
        cluster_secret=(),
        cluster_secret_file=None,
        cluster_lease=15,
        node_address=None,
        node_tls_ca=None,
        traces=False,
    )


def test_a_flag_beats_a_variable_and_a_variable_beats_the_default():
    environment = {"API_URI": API_URI, "LOG_LEVEL": "WARN"}
    assert load({}, environment).log_level == "WARN"
    assert load({"log_level": None}, environment).log_level == "WARN"
    assert load({"log_level": "DEBUG"}, environment).log_level == "DEBUG"


def test_an_invalid_variable_is_ignored_if_there_is_a_flag():
    assert load({"log_level": "DEBUG"}, {"API_URI": API_URI, "LOG_LEVEL": "?"}).log_level == "DEBUG"


@pytest.mark.parametrize("name", NAMES[1:])
def test_an_empty_variable_counts_as_not_set(name):
    assert given_as_variables(**{name: ""}) == given_as_variables()


@pytest.mark.parametrize("name", NAMES[1:])
def test_an_empty_flag_is_an_invalid_value(name):
    with pytest.raises(SettingError, match=f"^{name.upper()}="):
        given_as_flags(**{name: ""})


def test_other_variables_are_ignored():
    assert load({}, {"API_URI": API_URI, "PATH": "/bin", "api_timeout": "x"}) == given_as_variables()


@pytest.mark.parametrize(
    ("flags", "environment"),
    [({}, {}), ({}, {"API_URI": ""}), ({"api_uri": ""}, {}), ({"api_uri": ""}, {"API_URI": API_URI})],
)
def test_an_error_without_a_backend_suggests_the_demo(flags, environment):
    with pytest.raises(SettingError) as raised:
        load(flags, environment)
    assert str(raised.value).startswith("API_URI is not set")
    assert "wsaas demo" in str(raised.value)


# Flags


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="wsaas")
    add_flags(made)
    return made


@pytest.mark.parametrize("setting", fields(Settings), ids=NAMES)
def test_every_setting_has_a_variable_a_flag_and_help(setting):
    flag = f"--{setting.name.replace('_', '-')}"
    assert variable(setting) == setting.name.upper()
    assert vars(parser().parse_args([flag, "text"]))[setting.name] == "text"
    help_text = " ".join(parser().format_help().split())
    assert f"{flag} VALUE" in help_text
    start = " ".join(setting.metadata["meaning"].replace("`", "").split()[:4])
    assert start in help_text
    if setting.metadata["default"]:
        assert f"(default: {setting.metadata['default']})" in help_text
    assert help_text.count("(required)") == 1


def test_a_command_may_have_other_defaults_and_hide_flags_in_its_help():
    made = argparse.ArgumentParser()
    add_flags(made, {"api_uri": "a free port"}, {"workers"})
    help_text = " ".join(made.format_help().split())
    assert "replaced with the connection's id (default: a free port)" in help_text
    assert "--workers" not in help_text
    assert vars(made.parse_args(["--workers", "2"]))["workers"] == "2"


def test_a_flag_that_is_not_given_is_none():
    assert set(vars(parser().parse_args([])).values()) == {None}


def test_flags_are_parsed_into_settings():
    arguments = ["--api-uri", "backend/ws", "--ws-timeout=0", "--allowed-origins", "https://a.com"]
    settings = load(vars(parser().parse_args(arguments)), {"WS_TIMEOUT": "5"})
    assert (settings.api_uri.host, settings.ws_timeout) == ("backend", 0)
    assert settings.allowed_origins == Origins(frozenset({"https://a.com"}))


# Numbers and choices


@pytest.mark.parametrize("name", MILLISECONDS + POSITIVE)
def test_milliseconds_become_seconds(name):
    unit = 1000 if name in TIMES else 1
    assert value_of(name, "1") == 1 / unit
    assert value_of(name, "007") == 7 / unit
    assert value_of(name, "9" * 15) == int("9" * 15) / unit
    for text in ("-1", "+1", "1.5", "1e3", "1_000", " 1", "1 ", "1\n", "ten", "0x10", "٣", "²", "9" * 16):
        message = refusal(name, text)
        assert message.startswith(f"{name.upper()}={text!r}: expected a number")


@pytest.mark.parametrize("name", MILLISECONDS)
def test_some_numbers_may_be_zero(name):
    assert value_of(name, "0") == 0


@pytest.mark.parametrize("name", POSITIVE)
def test_other_numbers_may_not_be_zero(name):
    assert refusal(name, "0").endswith("above 0")


@pytest.mark.parametrize("text", ["ERROR", "WARN", "INFO", "DEBUG"])
def test_a_log_level_is_one_of_four(text):
    assert value_of("log_level", text) == text


@pytest.mark.parametrize("text", ["info", "Info", "iNFO"])
def test_a_choice_may_be_in_upper_or_lower_case(text):
    assert value_of("log_level", text) == "INFO"
    assert [value_of("log_format", "JSON"), value_of("journal_sync", "Full")] == ["json", "full"]
    assert [value_of("compression", switch) for switch in ("On", "OFF")] == [True, False]


@pytest.mark.parametrize("text", ["WARNING", "warning", "TRACE", " INFO", "10", "\u0130NFO"])
def test_other_log_levels_are_refused(text):
    assert refusal("log_level", text) == f"LOG_LEVEL={text!r}: expected ERROR, WARN, INFO or DEBUG"


def test_a_log_format_is_text_or_json():
    assert [value_of("log_format", text) for text in ("text", "json")] == ["text", "json"]
    assert refusal("log_format", "xml") == "LOG_FORMAT='xml': expected text or json"


# Where the backend is


@pytest.mark.parametrize(
    ("text", "backend", "authority"),
    [
        ("localhost:80/websocket", Backend("http", "localhost", 80, "/websocket"), "localhost"),
        ("localhost", Backend("http", "localhost", 80, "/"), "localhost"),
        ("localhost:8000", Backend("http", "localhost", 8000, "/"), "localhost:8000"),
        ("http://a.b-c.d/", Backend("http", "a.b-c.d", 80, "/"), "a.b-c.d"),
        ("http://a:443/", Backend("http", "a", 443, "/"), "a:443"),
        ("https://a/b/", Backend("https", "a", 443, "/b/"), "a"),
        ("https://a:80/b", Backend("https", "a", 80, "/b"), "a:80"),
        ("A.Example./Path", Backend("http", "a.example.", 80, "/Path"), "a.example."),
        ("my_service:65535", Backend("http", "my_service", 65535, "/"), "my_service:65535"),
        ("10.0.0.1:8000/x?y=z&a=%20", Backend("http", "10.0.0.1", 8000, "/x?y=z&a=%20"), "10.0.0.1:8000"),
        ("a?key=1", Backend("http", "a", 80, "/?key=1"), "a"),
        ("[::1]:8000/x", Backend("http", "::1", 8000, "/x"), "[::1]:8000"),
        ("[fe80::1%eth0]", Backend("http", "fe80::1%eth0", 80, "/"), "[fe80::1]"),
        ("https://[fe80::1%25eth0]:80/x", Backend("https", "fe80::1%eth0", 80, "/x"), "[fe80::1]:80"),
        ("[fe80::1%25]:80", Backend("http", "fe80::1%25", 80, "/"), "[fe80::1]"),
        ("http://[2001:DB8::1]", Backend("http", "2001:db8::1", 80, "/"), "[2001:db8::1]"),
        ("a/ws/{id}/x?i={id}", Backend("http", "a", 80, "/ws/{id}/x?i={id}"), "a"),
        ("a//b/../c;d=1,2:@!$'()*+~", Backend("http", "a", 80, "//b/../c;d=1,2:@!$'()*+~"), "a"),
        ("unix:/run/app.sock", Backend("http", "localhost", 80, "/", "/run/app.sock"), "localhost"),
        ("unix:/run/app.sock:/", Backend("http", "localhost", 80, "/", "/run/app.sock"), "localhost"),
        (
            "unix:/run/app.sock:/ws/{id}?a=b:c",
            Backend("http", "localhost", 80, "/ws/{id}?a=b:c", "/run/app.sock"),
            "localhost",
        ),
        ("unix:/b\u00fc/../x@1", Backend("http", "localhost", 80, "/", "/b\u00fc/../x@1"), "localhost"),
        (f"unix:/{'x' * 102}", Backend("http", "localhost", 80, "/", f"/{'x' * 102}"), "localhost"),
    ],
)
def test_a_backend_is_host_and_path(text, backend, authority):
    parsed = value_of("api_uri", text)
    assert parsed == backend
    assert parsed.authority == authority


BAD_AUTHORITIES = [
    "http://",
    "https:///x",
    "//a/b",
    "/x",
    ":80/x",
    "://a/x",
    "ftp://a/x",
    "HTTP://a/x",
    "ws://a/x",
    "http:a/x",
    "http://http://a",
    "user@a/x",
    "user:password@a/x",
    "a:0/x",
    "a:65536/x",
    "a:123456/x",
    "a:-1/x",
    "a:+1/x",
    "a:8o/x",
    "a:\uff18\uff10/x",
    "a:/x",
    "a:80:90/x",
    "a b/x",
    " a/x",
    "a/x ",
    "a\t/x",
    "a\r\nX: y/x",
    "\x00a/x",
    "a/\x85x",
    "a..b/x",
    ".a/x",
    "a" * 64 + "/x",
    "bücher.example/x",
    "\uff41/x",
    "a%41/x",
    "{id}.a/x",
    "a,b/x",
    "[::1/x",
    "::1/x",
    "[::1]x:80/x",
    "x[::1]:80/x",
    "[a]/x",
    "[1.2.3.4]/x",
    "[::1]]/x",
    "[fe80::1%]/x",
    "[fe80::1%eth0%1]/x",
    "[]/x",
    "a/x#fragment",
    "a/x#",
    "#",
]


@pytest.mark.parametrize(
    "text",
    [
        *BAD_AUTHORITIES,
        "a/é",
        "a/x y",
        "a/x\\y",
        'a/"x"',
        "a/<x>",
        "a/x|y",
        "a/^x",
        "a/`x`",
        "a/{ID}",
        "a/{}",
        "a/{",
        "a/}",
        "a/{{id}}",
        "a/{id",
        "a/id}",
        "a/x\r\nHost: y",
        "a/x\ny",
        "unix:",
        "unix:/",
        "unix:run/app.sock",
        "unix:./app.sock",
        "unix://run/app.sock",
        "unix:///run/app.sock",
        "unix:/run/app.sock:",
        "unix:/run/app.sock:ws",
        "unix:/run/app.sock:?a",
        "unix:/run/app.sock:8000/ws",
        "unix:/run/app.sock?a",
        "unix:/run/app.sock#a",
        "unix:/run/app.sock:/a#b",
        "unix:/run/app.sock:/a b",
        "unix:/run/app.sock:/{x}",
        "unix:/run/{id}.sock",
        "unix:/run/my app.sock",
        "unix:/run/app.sock\n",
        "unix:/run/\udcff.sock",
        "unix:/run/",
        "unix:/run/:/x",
        "unix: /run/app.sock",
        "UNIX:/run/app.sock",
        f"unix:/{'x' * 103}",
        "unix:/" + "\u00fc" * 52,
        "http+unix://%2Frun%2Fapp.sock/x",
        "http://unix:/run/app.sock:/x",
    ],
)
def test_other_values_of_api_uri_are_refused(text):
    message = refusal("api_uri", text)
    assert message.startswith(f"API_URI={shown(text)}: expected host:port/path, or an http:// or https:// URL")
    assert "unix:/SOCKET:/path, where both paths begin with a slash" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node-1:8080", ("node-1", 8080, "")),
        ("ws.example.com", ("ws.example.com", 80, "")),
        ("http://ws.example.com:81", ("ws.example.com", 81, "")),
        ("https://WS.example.com/prefix/a", ("ws.example.com", 443, "/prefix/a")),
        ("[::1]:8080/x", ("::1", 8080, "/x")),
    ],
)
def test_a_public_name_is_kept_as_it_was_set(text, expected):
    assert value_of("ws_hostname", text) == PublicName(text, *expected)


@pytest.mark.parametrize(
    "text", [*BAD_AUTHORITIES, "a/", "a/x/", "a?x", "a?", "a/x?", "a/{id}", "a/é", "https://a/", "a:{por}"]
)
def test_other_values_of_ws_hostname_are_refused(text):
    message = refusal("ws_hostname", text)
    assert message.startswith(f"WS_HOSTNAME={shown(text)}: expected host:port, optionally with http://")


# Listeners


@pytest.mark.parametrize("name", ["listen", "control_listen"])
@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("localhost:8080", Address("localhost", 8080), True),
        ("node.localhost:8080", Address("node.localhost", 8080), True),
        ("notlocalhost:8080", Address("notlocalhost", 8080), False),
        ("LocalHost:1", Address("localhost", 1), True),
        ("127.0.0.1:0", Address("127.0.0.1", 0), True),
        ("127.9.9.9:65535", Address("127.9.9.9", 65535), True),
        ("0.0.0.0:80", Address("0.0.0.0", 80), False),
        ("10.0.0.1:80", Address("10.0.0.1", 80), False),
        ("[::1]:80", Address("::1", 80), True),
        ("[::]:80", Address("::", 80), False),
        ("[FE80::1]:80", Address("fe80::1", 80), False),
        (":80", Address("", 80), False),
        ("*:80", Address("", 80), False),
        ("unix:/run/wsaas.sock", Address(path="/run/wsaas.sock"), True),
        ("unix:/a b:80", Address(path="/a b:80"), True),
        ("unix:@wsaas", Address(path="@wsaas"), True),
    ],
)
def test_a_listener_is_a_host_and_port_or_a_unix_socket(name, text, address, loopback):
    parsed = value_of(name, text)
    assert parsed == address
    assert parsed.is_loopback is loopback
    assert value_of(name, str(parsed)) == address


def test_an_abstract_socket_without_a_name_is_refused():
    assert refusal("listen", "unix:@").endswith("expected host:port, unix:/path or unix:@name")


@pytest.mark.parametrize("name", ["listen", "control_listen"])
@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:65536",
        "localhost:-1",
        "localhost:+1",
        "localhost: 80",
        "localhost:\uff18\uff10",
        "http://localhost:80",
        "localhost:80/x",
        "::1:80",
        "[::1]",
        "[]:80",
        "[a]:80",
        "[127.0.0.1]:80",
        "a..b:80",
        "a b:80",
        "**:80",
        "é:80",
        "unix:",
        "unix:run/wsaas.sock",
        "unix:80",
        "UNIX:/run/wsaas.sock",
    ],
)
def test_other_values_of_listen_are_refused(name, text):
    accepted = {
        "listen": "host:port, unix:/path or unix:@name",
        "control_listen": "host:port, host:first-last for a range of ports, unix:/path or unix:@name",
    }
    assert refusal(name, text) == f"{name.upper()}={text!r}: expected {accepted[name]}"


@pytest.mark.parametrize(
    "text",
    ["a:0-3", "a:1-0", "a:2-1", "a:65535-65536", "a:1-", "a:-1", "a:1-2-3", "a:1-\uff12", "unix:a-2", ":x-2"],
)
def test_other_ranges_of_ports_are_refused(text):
    assert refusal("control_listen", text).startswith(f"CONTROL_LISTEN={text!r}: expected host:port, host:first-last")


# Workers


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("4", 4), ("128", 128)])
def test_the_number_of_workers_is_set(text, number):
    assert value_of("workers", text) == number


def test_there_is_a_worker_for_each_cpu_that_the_gateway_may_use(monkeypatch):
    assert value_of("workers", "auto") == len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1000))
    assert value_of("workers", "AUTO") == 128
    monkeypatch.delattr(os, "sched_getaffinity")
    assert value_of("workers", "auto") == 1


def test_several_workers_need_linux(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    assert refusal("workers", "2") == "WORKERS='2': only Linux distributes clients among processes: set it to 1"
    assert value_of("workers", "1") == 1


@pytest.mark.parametrize("text", ["0", "129", "-1", "many", "2.0", " 2"])
def test_other_numbers_of_workers_are_refused(text):
    assert refusal("workers", text) == f"WORKERS={text!r}: expected a number from 1 to 128, or auto"


def test_each_worker_has_one_port_of_the_range_and_names_it():
    settings = given_as_variables(
        ws_hostname="https://node:{port}/w/{port}", listen=":80", control_listen="[::1]:8081-8084", workers="3"
    )
    assert str(settings.control_listen) == "[::1]:8081-8084"
    workers = [of_worker(settings, index) for index in range(3)]
    assert [each.control_listen for each in workers] == [Address("::1", port) for port in (8081, 8082, 8083)]
    assert workers[2].ws_hostname == PublicName("https://node:8083/w/8083", "node", 8083, "/w/8083")
    assert workers[0].listen == Address("", 80)


@pytest.mark.parametrize(
    ("control", "port"), [("a:8081", 8081), ("a:8081-8084", 8081), ("a:8081-8081", 8081), (None, 8080)]
)
def test_the_port_in_the_public_name_needs_no_workers(control, port):
    given = {} if control is None else {"control_listen": control}
    settings = given_as_variables(ws_hostname="node:{port}", listen="a:8080", **given)
    assert settings.ws_hostname == PublicName(f"node:{port}", "node", port, "")
    assert control_address(settings) == Address("a", port)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (
            {"control_listen": "a:1-3", "workers": "3"},
            "CONTROL_LISTEN='a:1-3': each worker has one port of a range, so WS_HOSTNAME has to contain {port}",
        ),
        (
            {"ws_hostname": "a:{port}", "control_listen": "a:1-3"},
            "WS_HOSTNAME='a:{port}': {port} is no address for clients: set LISTEN",
        ),
        (
            {"ws_hostname": "a:{port}", "listen": "a:0"},
            "WS_HOSTNAME='a:{port}': {port} needs a CONTROL_LISTEN with a port that is not 0",
        ),
        (
            {"ws_hostname": "a:{port}", "listen": "a:1", "control_listen": "unix:/a"},
            "WS_HOSTNAME='a:{port}': {port} needs a CONTROL_LISTEN with a port that is not 0",
        ),
        (
            {"ws_hostname": "a:{port}", "listen": ":80", "workers": "3"},
            (
                "WS_HOSTNAME='a:{port}': {port} needs a port for each of 3 workers: set CONTROL_LISTEN to a range of "
                "at least 3 ports, such as :81-83"
            ),
        ),
        (
            {"ws_hostname": "a:{port}", "listen": ":80", "control_listen": "b:65535", "workers": "2"},
            (
                "WS_HOSTNAME='a:{port}': {port} needs a port for each of 2 workers: set CONTROL_LISTEN to a range of "
                "at least 2 ports, such as b:65534-65535"
            ),
        ),
        (
            {"ws_hostname": "a:{port}", "listen": ":80", "control_listen": "b:81-82", "workers": "3"},
            (
                "WS_HOSTNAME='a:{port}': {port} needs a port for each of 3 workers: set CONTROL_LISTEN to a range of "
                "at least 3 ports, such as b:81-83"
            ),
        ),
        (
            {"ws_hostname": "a:{port}", "listen": ":82", "control_listen": "b:81-82", "workers": "2"},
            "CONTROL_LISTEN='b:81-82': the range contains the port of LISTEN=':82'",
        ),
        (
            {"max_memory": "134217727", "workers": "2"},
            "MAX_MEMORY='134217727': expected at least 134217728 for WORKERS=2",
        ),
        (
            {"api_connections": "2", "workers": "3"},
            "API_CONNECTIONS='2': expected at least 1 for each worker (WORKERS=3)",
        ),
        (
            {"max_owed_disconnects": "1", "workers": "2"},
            "MAX_OWED_DISCONNECTS='1': expected at least 1 for each worker (WORKERS=2)",
        ),
    ],
)
def test_settings_that_do_not_fit_the_workers_are_refused(given, error):
    with pytest.raises(SettingError) as raised:
        given_as_variables(**given)
    assert str(raised.value) == error


def test_workers_divide_what_belongs_to_a_process():
    limits = {"api_connections": "100", "max_owed_disconnects": "8", "max_connections": "9", "workers": "3"}
    settings = given_as_variables(**limits, max_memory="300000000", max_connections_per_address="5")
    worker = of_worker(settings, 0)
    assert (worker.api_connections, worker.max_owed_disconnects, worker.max_memory) == (33, 2, 100_000_000)
    assert (worker.max_connections, worker.max_connections_per_address) == (9, 5)
    unlimited = given_as_variables(max_memory="0", workers="3")
    assert of_worker(unlimited, 0).max_memory == 0
    assert of_worker(given_as_variables(workers="3"), 0).max_memory is None


@pytest.mark.parametrize(("text", "mode"), [("666", 0o666), ("0660", 0o660), ("7", 7), ("0", 0), ("777", 0o777)])
def test_the_mode_of_a_unix_socket_is_octal(text, mode):
    assert value_of("listen_mode", text) == mode


@pytest.mark.parametrize("text", ["778", "1777", "0o666", "rw", "-1", "00666", " 666", "\u0666"])
def test_other_values_of_listen_mode_are_refused(text):
    assert refusal("listen_mode", text) == f"LISTEN_MODE={text!r}: expected an octal number from 0 to 777"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost:8080", Address("localhost", 8080)),
        ("http://127.0.0.1:81/x", Address("127.0.0.1", 81)),
        ("[::1]:82", Address("::1", 82)),
        ("ws.example.com", Address("", 80)),
        ("https://10.0.0.1", Address("", 443)),
    ],
)
def test_the_address_for_clients_follows_from_the_public_name(name, expected):
    settings = given_as_variables(ws_hostname=name)
    assert listen_address(settings) == control_address(settings) == expected


def test_a_listener_that_is_set_beats_the_public_name():
    settings = given_as_variables(ws_hostname="localhost:1", listen="a:2")
    assert listen_address(settings) == control_address(settings) == Address("a", 2)
    settings = given_as_variables(ws_hostname="localhost:1", listen="a:2", control_listen="b:3")
    assert (listen_address(settings), control_address(settings)) == (Address("a", 2), Address("b", 3))
    settings = given_as_variables(ws_hostname="localhost:1", control_listen="unix:/c")
    assert (listen_address(settings), control_address(settings)) == (Address("localhost", 1), Address(path="/c"))


# Lists and secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", ANY_ORIGIN),
        ("null", Origins(frozenset({"null"}))),
        ("https://A.com", Origins(frozenset({"https://a.com"}))),
        (
            "https://a.com , http://b.com:8080,https://a.com",
            Origins(frozenset({"https://a.com", "http://b.com:8080"})),
        ),
        ("https://a.com:443,http://a.com:80", Origins(frozenset({"https://a.com", "http://a.com"}))),
        ("https://a.com:80,http://[::1]:443", Origins(frozenset({"https://a.com:80", "http://[::1]:443"}))),
        ("https://*.A.com, http://*.b.com:81", Origins(domains=(("https", ".a.com"), ("http", ".b.com:81")))),
        ("chrome-extension://abc", Origins(frozenset({"chrome-extension://abc"}))),
        (
            "file://, Content://,capacitor://localhost,app://.",
            Origins(frozenset({"file://", "content://", "capacitor://localhost", "app://."})),
        ),
        ("https://Bücher.example:443", Origins(frozenset({"https://xn--bcher-kva.example"}))),
        ("https://*.bücher.example:1", Origins(domains=(("https", ".xn--bcher-kva.example:1"),))),
        ("https://例え.テスト", Origins(frozenset({"https://xn--r8jz45g.xn--zckzah"}))),
        ("https://\uff41\u3002\ufb01.example", Origins(frozenset({"https://a.fi.example"}))),
        ("https://a.com,*", Origins(frozenset({"https://a.com"}), everyone=True)),
    ],
)
def test_origins_are_a_list(text, expected):
    assert value_of("allowed_origins", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a.com",
        "https://",
        "https://a.com/",
        "https://a.com/x",
        "https://a.com,",
        ",",
        " ",
        "https://a b",
        "**",
        "*.a.com",
        "https://*",
        "https://*a.com",
        "https://a.*.com",
        "https://*.*.com",
        "https://me@a.com",
        "https://a.com:",
        "https://a.com:port",
        "http://",
        "wss://",
        "file:///",
        "file:///x",
        "file:",
        "://",
        "https://faß.de",
        "https://βόλος.com",
        "https://a\u200db.com",
        "https://\u1e9e.de",
        "https://é..com",
        "https://é\ufe5c.com",
        "https://\u2d23.com",
        "https://" + "é" * 64,
    ],
)
def test_an_origin_is_a_scheme_and_a_host(text):
    assert refusal("allowed_origins", text).startswith(f"ALLOWED_ORIGINS={shown(text)}: expected *, or origins such as")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("chat", ("chat",)), ("b, a ,c", ("b", "a", "c")), ("v1.x+json", ("v1.x+json",))],
)
def test_subprotocols_keep_their_order(text, expected):
    assert value_of("subprotocols", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("query:access_token", (TokenPlace("query", "access_token"),)),
        (
            "cookie:session , subprotocol:bearer.",
            (TokenPlace("cookie", "session"), TokenPlace("subprotocol", "bearer.")),
        ),
    ],
)
def test_the_places_of_a_token_keep_their_order(text, expected):
    assert value_of("browser_authorization", text) == expected


@pytest.mark.parametrize(
    "text",
    ["query", "query:", "header:x", "Query:x", "query:a b", "cookie:a=b", "subprotocol:a/", "query:a,", "query:é"],
)
def test_a_place_of_a_token_is_a_kind_and_a_name(text):
    assert refusal("browser_authorization", text) == (
        f"BROWSER_AUTHORIZATION={text!r}: expected query:NAME, subprotocol:PREFIX or cookie:NAME; several separated by "
        "commas"
    )


@pytest.mark.parametrize("text", [",", "a,", "a b", "a/b", "a;b", "é", '"a"', "a\r\nb", " "])
def test_a_subprotocol_is_a_token(text):
    assert refusal("subprotocols", text) == f"SUBPROTOCOLS={text!r}: expected subprotocol names separated by commas"


@pytest.mark.parametrize(
    ("text", "ping", "pong"),
    [
        ("ping=pong", b"ping", b"pong"),
        ("a=b=c", b"a", b"b=c"),
        ('{"type": "ping"}={"type": "pong"}', b'{"type": "ping"}', b'{"type": "pong"}'),
        (f"{'x' * 125}=é", b"x" * 125, "é".encode()),
    ],
)
def test_a_heartbeat_is_a_text_and_its_answer(text, ping, pong):
    found = value_of("heartbeat", text)
    assert found == Heartbeat(ping, pong)
    assert str(found) == text


@pytest.mark.parametrize(
    "text", ["ping", "=", "ping=", "=pong", f"{'x' * 126}=b", f"a={'é' * 63}", "a\n=b", "a=\udc80"]
)
def test_other_values_of_heartbeat_are_refused(text):
    expected = "expected a text and its answer, such as ping=pong, each of 1 to 125 bytes without control characters; "
    assert refusal("heartbeat", text) == f"HEARTBEAT={text!r}: {expected}the first = separates them"


@pytest.mark.parametrize(
    "text",
    [
        "application/json",
        "application/vnd.my+json;charset=UTF-8",
        'text/plain; charset="utf-8"; x=" !~"',
        'text/plain; x="; charset=latin-1"',
        "application/octet-stream2",
        "a/" + "b" * 198,
    ],
)
def test_the_type_of_text_messages_is_a_media_type(text):
    assert value_of("text_content_type", text) == text


@pytest.mark.parametrize(
    "text",
    [
        "json",
        "text/",
        "/plain",
        "text/plain;",
        "text/plain; charset",
        "text/plain; charset=latin-1",
        'text/plain; x=1 ;\tCharset="utf-16"',
        "text/plain; charset=utf-8; charset=latin-1",
        'text/plain; charset=utf-8;CHARSET="utf-8"',
        'text/plain; charset=""',
        'text/plain; x="\\""',
        "text/plain; x=é",
        "text/plain\r\nX: y",
        "text/plain, text/html",
        " text/plain",
        "text/plain ",
        "application/octet-stream",
        "Application/Octet-Stream; charset=utf-8",
        "a/" + "b" * 199,
    ],
)
def test_other_values_of_text_content_type_are_refused(text):
    expected = "expected a media type such as application/json, of at most 200 characters, other than application/"
    assert refusal("text_content_type", text) == (
        f"TEXT_CONTENT_TYPE={text!r}: {expected}octet-stream, and with at most one charset, utf-8"
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("$request.body.action", ("action",)),
        ("$request.body.message-type", ("message-type",)),
        ("$request.body.a.b_2.C", ("a", "b_2", "C")),
        ("${request.body.a.b}", ("a", "b")),
    ],
)
def test_a_route_selection_names_members(text, names):
    assert value_of("aws_route_selection", text) == names


@pytest.mark.parametrize(
    "text", ["action", "$request.body", "$request.body.", "$request.body.a..b", "${request.body.a", "$request.body.a}"]
)
def test_other_route_selections_are_refused(text):
    assert refusal("aws_route_selection", text) == (
        f"AWS_ROUTE_SELECTION={text!r}: expected $request.body. and the name of a member, such as "
        "$request.body.action or ${request.body.action}; names of nested ones follow a dot"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("s3cret!~", (b"s3cret!~",)), ("new, old", (b"new", b"old")), ("new\r\nold", (b"new", b"old"))],
)
def test_tokens_are_bytes(text, expected):
    assert value_of("control_token", text) == expected


@pytest.mark.parametrize("text", ["s3cret token", "s3cret\n", "s3crét", " s3cret", "s3cret\x7f", "a,,b", ","])
def test_a_wrong_token_is_not_shown(text):
    message = refusal("control_token", text)
    assert message == "CONTROL_TOKEN=(hidden): expected tokens of visible ASCII characters, separated by commas"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AKIDEXAMPLE:a/b+c=", (b"AKIDEXAMPLE:a/b+c=",)),
        ("id:with:colon", (b"id:with:colon",)),
        ("a:1, b:2", (b"a:1", b"b:2")),
        ("a:1\r\nb:1", (b"a:1", b"b:1")),
    ],
)
def test_access_keys_have_an_id_and_a_secret(text, expected):
    assert value_of("control_aws_keys", text) == expected


@pytest.mark.parametrize(
    "text", ["id", "id:", ":s3cret", "a/b:s3cret", "a b:s3cret", "a:s3 cret", "a:1,a:2", "a:1,,b:2", "a:é"]
)
def test_a_wrong_access_key_is_not_shown(text):
    message = refusal("control_aws_keys", text)
    assert message.startswith("CONTROL_AWS_KEYS=(hidden): expected id:secret in visible ASCII without commas; several")


def test_access_keys_alone_leave_no_console_as_it_cannot_use_them():
    assert has_console(make_settings())
    assert not has_console(make_settings(control_aws_keys="id:secret"))
    assert has_console(make_settings(control_aws_keys="id:secret", control_token="s3cret"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a2V5", (b"a2V5",)),
        ("a2V5, b2xk==", (b"a2V5", b"b2xk==")),
        ("Endpoint=http://localhost:8080;AccessKey=a2V5;Version=1.0;", (b"a2V5",)),
        ("accesskey=a2V5==\nEndpoint=https://x;AccessKey=b2xk", (b"a2V5==", b"b2xk")),
    ],
)
def test_access_keys_of_azure_may_be_in_connection_strings(text, expected):
    settings = load({}, {"API_URI": API_URI, "EVENT_FORMAT": "azure", "CONTROL_AZURE_KEYS": text})
    assert settings.control_azure_keys == expected


@pytest.mark.parametrize("text", ["a b", "a,,b", "é", "Endpoint=http://localhost:8080;Version=1.0;"])
def test_a_wrong_access_key_of_azure_is_not_shown(text):
    message = refusal("control_azure_keys", text)
    assert message.startswith("CONTROL_AZURE_KEYS=(hidden): expected access keys or connection strings of visible")


def test_access_keys_of_azure_need_the_format():
    expected = "CONTROL_AZURE_KEYS is set, but EVENT_FORMAT is not azure: set both"
    assert refusal("control_azure_keys", "a2V5") == expected


def test_azure_needs_two_groups_for_each_client():
    azure = {"API_URI": API_URI, "EVENT_FORMAT": "azure"}
    assert load({}, {**azure, "MAX_GROUPS": "2"}).max_groups == 2
    with pytest.raises(SettingError, match=r"MAX_GROUPS='1': EVENT_FORMAT=azure needs at least 2, as each client is"):
        load({}, {**azure, "MAX_GROUPS": "1"})


@pytest.mark.parametrize("text", ["", "chat-room", "1", "a" * 65])
def test_other_names_of_hubs_are_refused(text):
    assert value_of("azure_hub", "Chat_2") == "Chat_2"
    if text:
        assert refusal("azure_hub", text) == (
            f"AZURE_HUB={text!r}: expected a letter and up to 63 letters, digits and underscores"
        )


def test_clients_of_azure_may_put_their_token_into_the_query():
    azure = {"API_URI": API_URI, "EVENT_FORMAT": "azure"}
    place = TokenPlace(QUERY, "access_token")
    assert load({}, azure).browser_authorization == (place,)
    assert load({}, {**azure, "BROWSER_AUTHORIZATION": "query:access_token"}).browser_authorization == (place,)
    others = load({}, {**azure, "BROWSER_AUTHORIZATION": "cookie:session"}).browser_authorization
    assert others == (TokenPlace(COOKIE, "session"), place)
    assert load({}, {"API_URI": API_URI}).browser_authorization == ()


def signing_secret(size: int) -> str:
    return "whsec_" + b64encode(bytes(range(size))).decode()


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_signing_secret_is_decoded_from_base64(size):
    assert value_of("api_secret", signing_secret(size)) == (bytes(range(size)),)


def test_several_signing_secrets_keep_their_order():
    text = f"{signing_secret(32)}, {signing_secret(24)}"
    assert value_of("api_secret", text) == (bytes(range(32)), bytes(range(24)))


@pytest.mark.parametrize(
    "text",
    [
        signing_secret(23),
        signing_secret(65),
        signing_secret(32)[6:],
        signing_secret(32)[:-1],
        signing_secret(32) + "!",
        "whsec_" + "é" * 40,
        "whsk_" + signing_secret(32)[6:],
        signing_secret(32) + ",",
        "",
    ],
)
def test_a_wrong_signing_secret_is_not_shown(text):
    message = refusal("api_secret", text) if text else refusal("api_secret", ",")
    assert message.startswith("API_SECRET=(hidden): expected whsec_ and 24 to 64 random bytes in base64")


SECRETS = [
    ("control_token", "s3cret", (b"s3cret",)),
    ("api_secret", signing_secret(32), (bytes(range(32)),)),
    ("cluster_secret", "s" * 16, (b"s" * 16,)),
    ("control_aws_keys", "id:secret", (b"id:secret",)),
]


@pytest.mark.parametrize(("name", "text", "expected"), SECRETS)
@pytest.mark.parametrize("end", ["", "\n", " \r\n"])
def test_a_secret_may_be_in_a_file(tmp_path, name, text, expected, end):
    (tmp_path / "secret").write_text(text + end)
    path = str(tmp_path / "secret")
    assert getattr(load({}, {"API_URI": API_URI, f"{name.upper()}_FILE": path}), name) == expected
    assert getattr(load({"api_uri": API_URI, f"{name}_file": path}, {}), name) == expected


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe", "cannot be read: it is not UTF-8"),
        (b"\n", "the file is empty"),
        (b"", "the file is empty"),
    ],
)
def test_an_error_names_a_file_without_a_secret(tmp_path, content, why):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingError) as raised:
        load({}, {"API_URI": API_URI, "CONTROL_TOKEN_FILE": str(path)})
    assert str(raised.value) == f"CONTROL_TOKEN_FILE={str(path)!r}: {why}"


def test_only_a_limited_part_of_a_file_is_read():
    with pytest.raises(SettingError) as raised:
        load({}, {"API_URI": API_URI, "CONTROL_TOKEN_FILE": "/dev/zero"})
    assert str(raised.value) == "CONTROL_TOKEN_FILE='/dev/zero': the file has more than 65536 bytes"
    assert MAX_SECRET_FILE_SIZE == 65536


def test_a_file_that_is_too_long_is_refused(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"x" * MAX_SECRET_FILE_SIZE)
    assert read_secret("control_token_file", path) == (b"x" * MAX_SECRET_FILE_SIZE,)
    path.write_bytes(b"x" * (MAX_SECRET_FILE_SIZE + 1))
    with pytest.raises(SettingError, match=f"^CONTROL_TOKEN_FILE='{path}': the file has more than 65536 bytes$"):
        read_secret("control_token_file", path)


@pytest.mark.parametrize(("name", "text", "expected"), SECRETS)
def test_the_file_of_a_secret_can_be_reloaded(tmp_path, name, text, expected):
    path = tmp_path / "secret"
    path.write_text(text + "\n")
    assert read_secret(f"{name}_file", path) == expected
    path.write_text("not one of these, é")
    with pytest.raises(SettingError, match=rf"^{name.upper()}_FILE='{path}': expected "):
        read_secret(f"{name}_file", path)
    path.unlink()
    with pytest.raises(SettingError, match=rf"^{name.upper()}_FILE='{path}': cannot be read: No such file"):
        read_secret(f"{name}_file", path)


@pytest.mark.parametrize("has_writer", [False, True])
def test_reloading_a_pipe_does_not_block(tmp_path, has_writer):
    path = tmp_path / "secret"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR) if has_writer else None
    with pytest.raises(SettingError, match=f"^CONTROL_TOKEN_FILE='{path}': the file is empty$"):
        read_secret("control_token_file", path)
    if writer is not None:
        os.close(writer)


def test_a_secret_and_its_file_cannot_both_be_set(tmp_path):
    (tmp_path / "secret").write_text("s3cret")
    both = {"control_token": "x", "control_token_file": str(tmp_path / "secret")}
    as_variables = {name.upper(): value for name, value in both.items()}
    for flags, environment in ((both, {}), ({}, as_variables), (both, as_variables)):
        with pytest.raises(SettingError, match=r"^CONTROL_TOKEN and CONTROL_TOKEN_FILE are both set"):
            load({"api_uri": API_URI, **flags}, environment)


def test_a_flag_wins_over_a_variable_for_a_secret_and_for_its_file(tmp_path):
    (tmp_path / "secret").write_text("in-file")
    file = str(tmp_path / "secret")
    given = load({"api_uri": API_URI, "control_token": "flag"}, {"CONTROL_TOKEN_FILE": file})
    assert given.control_token == (b"flag",)
    assert given.control_token_file is None
    given = load({"api_uri": API_URI, "control_token_file": file}, {"CONTROL_TOKEN": "variable"})
    assert given.control_token_file == tmp_path / "secret"
    assert given.control_token == (b"in-file",)


def test_settings_do_not_show_secrets():
    secrets = {"control_token": "t0ken", "api_secret": signing_secret(32), "cluster_secret": "c1uster" * 3}
    settings = given_as_flags(**secrets, cluster="nats://me:pa55@host", node_address="host:8081")
    for secret in ("t0ken", "c1uster", "pa55", "me"):
        assert f"{secret}'" not in repr(settings)
    assert repr(bytes(range(32))) not in repr(settings)


@pytest.mark.parametrize("credentials", ["me:pa55", "me:pa/55", "me:pa@55", "//me:pa55", ":"])
def test_the_password_of_a_backend_is_refused_without_being_shown(credentials):
    message = refusal("api_uri", f"http://{credentials}@host/x")
    assert message.startswith("API_URI='http://(hidden)@host/x': expected host:port/path")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.2.3", Proxies((ip_network("10.1.2.3"),))),
        ("10.0.0.0/8, fd00::/8", Proxies((ip_network("10.0.0.0/8"), ip_network("fd00::/8")))),
        ("10.1.2.3/8", Proxies((ip_network("10.0.0.0/8"),))),
        ("unix:", Proxies(unix=True)),
        ("unix:,::1", Proxies((ip_network("::1"),), unix=True)),
    ],
)
def test_proxies_are_addresses_and_networks(text, expected):
    assert value_of("trusted_proxies", text) == expected


@pytest.mark.parametrize("text", ["proxy", "10.0.0.0/33", "10.0.0.1:80", "*", "10.0.0.1,", "unix:/x"])
def test_a_proxy_is_not_a_name(text):
    assert "expected addresses or networks such as 10.0.0.0/8" in refusal("trusted_proxies", text)


@pytest.mark.parametrize("listen", [{}, {"control_listen": "127.0.0.1:8081"}])
def test_the_proxy_protocol_needs_trusted_proxies(listen):
    with pytest.raises(SettingError) as refused:
        given_as_flags(proxy_protocol="on", **listen)
    assert str(refused.value) == (
        "PROXY_PROTOCOL='on': it is accepted from proxies alone, as anybody could forge it: set TRUSTED_PROXIES to the "
        "addresses of your load balancer"
    )
    for proxies in ("10.0.0.0/8", "unix:"):
        assert given_as_flags(proxy_protocol="on", trusted_proxies=proxies, **listen).proxy_protocol is True
    assert given_as_flags(proxy_protocol="off", **listen).proxy_protocol is False


def test_the_nodes_of_a_cluster_do_not_use_the_proxy_protocol():
    cluster = {"cluster": "nats://localhost", "node_address": "10.0.0.5:8081", "trusted_proxies": "10.0.0.1"}
    with pytest.raises(SettingError) as refused:
        given_as_flags(proxy_protocol="on", **cluster)
    assert str(refused.value) == (
        "PROXY_PROTOCOL='on': the other nodes of CLUSTER connect without a proxy: set CONTROL_LISTEN"
    )
    assert given_as_flags(proxy_protocol="on", control_listen="10.0.0.5:8081", **cluster).proxy_protocol is True


@pytest.mark.parametrize(("text", "expected"), [("on", True), ("off", False)])
def test_compression_is_on_or_off(text, expected):
    assert value_of("compression", text) is expected
    assert value_of("compression", text.upper()) is expected
    assert "expected on or off" in refusal("compression", f"{text} ")


# The journal


@pytest.mark.parametrize("text", ["journal", "/var/lib/wsaas/journal", "./a b/ü.db", "..x", "~/journal", "C:\\x"])
def test_the_path_of_a_journal_is_not_changed(text):
    assert value_of("journal", text) == Path(text)


@pytest.mark.parametrize("text", ["folder/", "/", "a\nb", "a\0b", "\x7f", "\udcff"])
def test_a_journal_is_not_a_folder_and_has_no_control_characters(text):
    assert "expected the path of a file" in refusal("journal", text)


@pytest.mark.parametrize("text", ["normal", "full"])
def test_journal_sync_is_normal_or_full(text):
    assert value_of("journal_sync", text) == text


@pytest.mark.parametrize("text", ["off", "1", "yes", "full normal"])
def test_other_values_of_journal_sync_are_refused(text):
    assert "expected normal or full" in refusal("journal_sync", text)


# Any text

_pieces = st.sampled_from(
    [
        "http://", "https://", "ftp://", "://", "//", "/", "localhost", "a.b", "127.0.0.1", "[::1]", "[", "]", ":",
        ":80", ":99999", ":0", "{id}", "{", "}", "?", "#", "@", "%", "..", "*", ",", " ", "\n", "\r", "\t", "\x00",
        "unix:", "null", "é", "\uff18", "²", "0", "-", "+", "1e9", "_", "\udcff", "\u2100", "x" * 70,
    ]
)  # fmt: skip
_any_text = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=20),
    st.lists(st.one_of(_pieces, _pieces, st.text(max_size=2)), max_size=7).map("".join),
)


@examples(1000)
@given(st.sampled_from(NAMES), _any_text)
def test_any_text_is_accepted_or_refused_in_one_line(name, text):
    try:
        settings = given_as_flags(**{name: text})
    except SettingError as error:
        message = str(error)
    else:
        message = name.upper()
        assert_usable(settings)
    assert message.startswith(name.upper())
    assert message.isprintable()


@examples(1000)
@given(_any_text, _any_text)
def test_any_accepted_address_can_be_used(backend, name):
    for flags in ({"api_uri": backend}, {"ws_hostname": name}, {"listen": name}):
        try:
            settings = given_as_flags(**flags)
        except SettingError:
            continue
        assert_usable(settings)


def assert_usable(settings: Settings) -> None:
    """Check that the host can be looked up and that the value cannot inject a header."""
    backend, name = settings.api_uri, settings.ws_hostname
    for text in (backend.target, backend.authority, name.text):
        assert text.isascii()
        assert text.isprintable()
        assert " " not in text
    assert backend.target.startswith("/")
    assert backend.socket.isprintable()
    assert len(backend.socket.encode()) < 104
    assert "{" not in backend.target.replace("{id}", "")
    for place in (backend, name, listen_address(settings)):
        place.host.encode("idna")
    assert 1 <= backend.port <= 65535
    assert 1 <= name.port <= 65535
    assert 0 <= listen_address(settings).port <= 65535
    assert name.text.endswith(name.prefix)
    assert not name.text.endswith(("/", "?", "#"))


@pytest.mark.parametrize(("text", "value"), [("0", 0), (str(1 << 26), 1 << 26)])
def test_a_memory_limit_below_the_minimum_is_refused(text, value):
    assert given_as_variables(max_memory=text).max_memory == value
    for wrong in ("1", str((1 << 26) - 1), "-1", "1G"):
        with pytest.raises(SettingError, match=r"MAX_MEMORY=.*: expected a number of bytes from 67108864, or 0"):
            given_as_variables(max_memory=wrong)


# Traces


def test_traces_need_their_packages(monkeypatch):
    def find(name):
        if name == "opentelemetry.sdk":
            raise ModuleNotFoundError
        return None if "otlp" in name else name

    monkeypatch.setattr(settings_module, "find_spec", find)
    with pytest.raises(SettingError) as raised:
        load({"api_uri": "backend", "traces": "on"}, {})
    assert str(raised.value) == (
        "TRACES needs packages that are not installed (opentelemetry.sdk, opentelemetry.exporter.otlp.proto.http): run "
        "pip install 'wsaas[otel]'"
    )
    assert load({"api_uri": "backend"}, {}).traces is False
