"""The command line: its values, and the errors about it."""

import re

import pytest

from wsaas.cli.arguments import parse
from wsaas.cli.command_options import DemoOptions


@pytest.mark.parametrize(
    ("given", "command", "flags"),
    [
        ([], "serve", {}),
        (["serve"], "serve", {}),
        (["demo"], "demo", {}),
        (["--api-uri", "a", "--ws-timeout=5"], "serve", {"api_uri": "a", "ws_timeout": "5"}),
        (["--drain-timeout", "5", "demo"], "demo", {"drain_timeout": "5"}),
        (["demo", "--drain-timeout", "-1"], "demo", {"drain_timeout": "-1"}),
        (["--api-secret-file", "x"], "serve", {"api_secret_file": "x"}),
        (["--control-token=-x"], "serve", {"control_token": "-x"}),
    ],
)
def test_a_command_and_its_flags(given, command, flags):
    arguments = parse(given)
    assert arguments.command == command
    assert {name: text for name, text in arguments.flags.items() if text is not None} == flags


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (["demo"], DemoOptions()),
        (["demo", "--nodes", "3"], DemoOptions(nodes=3)),
        (["--nodes=9", "demo"], DemoOptions(nodes=9)),
        (["demo", "--host", "0.0.0.0", "--port", "8080"], DemoOptions(host="0.0.0.0", port=8080)),
        (["--host=::", "demo"], DemoOptions(host="::")),
        (["demo", "--host=[::1]"], DemoOptions(host="::1")),
        (["demo", "--host=demo.example", "--port=1"], DemoOptions(host="demo.example", port=1)),
        (["demo", "--port=65535"], DemoOptions(port=65535)),
    ],
)
def test_the_flags_of_a_demo(given, options):
    assert parse(given).options == options


@pytest.mark.parametrize("text", ["", "0.0.0.0:80", "[::1", "::1]", "http://x", "a b", "-x", "fe80::1%", "a" * 255])
def test_what_is_no_host_of_a_demo_is_rejected(capsys, text):
    with pytest.raises(SystemExit):
        parse(["demo", f"--host={text}"])
    expected = f"{text!r} is not an IP address or a host name, such as 0.0.0.0 (the port is --port)"
    assert capsys.readouterr().err == f"wsaas: argument --host: {expected}; see wsaas --help\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--api-url", "x"], "unrecognized arguments: --api-url (did you mean --api-uri?)"),
        (["--api-url=s3cret"], "unrecognized arguments: --api-url (did you mean --api-uri?)"),
        (["demo", "--api-url", "x"], "unrecognized arguments: --api-url (did you mean --api-uri?)"),
        (["--api", "x"], "unrecognized arguments: --api (did you mean --api-uri?)"),
        (["--verison"], "unrecognized arguments: --verison (did you mean --version?)"),
        (["--no-such-thing"], "unrecognized arguments: --no-such-thing"),
        (["-x", "demo"], "unrecognized arguments: -x"),
        (["--ws-time-out=1", "--wat"], "unrecognized arguments: --ws-time-out (did you mean --ws-timeout?) --wat"),
        (
            ["dmeo"],
            "unrecognized command: dmeo (did you mean demo?); expected serve, demo, check, dev, lambda or completion",
        ),
        (["help"], "unrecognized command: help; expected serve, demo, check, dev, lambda or completion"),
        (["demo", "more", "words"], "unrecognized arguments: more words"),
        (
            ["--api-uri"],
            "argument --api-uri: expected one argument (write --flag=VALUE if the value starts with -)",
        ),
        (
            ["--control-token", "-x"],
            "argument --control-token: expected one argument (write --flag=VALUE if the value starts with -)",
        ),
        (["demo", "--nodes", "1"], "argument --nodes: '1' is not a number from 2 to 9"),
        (["demo", "--nodes", "ten"], "argument --nodes: 'ten' is not a number from 2 to 9"),
        (["demo", "--node", "3"], "unrecognized arguments: --node (did you mean --nodes?)"),
        (["--nodes", "3"], "argument --nodes: only for the demo (wsaas demo --nodes ...)"),
        (["--host", "::", "serve"], "argument --host: only for the demo (wsaas demo --host ...)"),
        (["--port", "80"], "argument --port: only for the demo (wsaas demo --port ...)"),
        (["demo", "--port", "0"], "argument --port: '0' is not a number from 1 to 65535"),
        (["demo", "--port", "x"], "argument --port: 'x' is not a number from 1 to 65535"),
        (["demo", "--hst", "::"], "unrecognized arguments: --hst (did you mean --host?)"),
        (["--version=1"], "argument --version: ignored explicit argument '1'"),
    ],
)
def test_an_invalid_argument_exits_with_status_2_and_one_line_that_names_it(capsys, given, said):
    with pytest.raises(SystemExit) as caught:
        parse(given)
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", f"wsaas: {said}; see wsaas --help\n")


def test_help_is_plain_text(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    text, err = capsys.readouterr()
    assert err == ""
    assert "request to the backend (Standard Webhooks). With several" in text
    assert "one signature for each. See https://www.standardwebhooks.com\n" in text
    assert "taken out of its place. See docs/operations.md#tokens-of-browsers\n" in text
    assert "with its REST API. See docs/aws.md#events and docs/azure.md (default: native)" in text
    assert "Needs pip install 'wsaas[cluster]'. See docs/cluster.md\n" in text
    for line in text.splitlines():
        assert not re.search(r"`|\]\(|\*\*|<[a-z]+>.*</|&[a-z]+;", line), line
