"""The command lines of `wsaas check`, `wsaas dev` and `wsaas lambda`."""

import pytest

from wsaas import settings
from wsaas.cli import dev
from wsaas.cli.arguments import parse
from wsaas.cli.command_options import (
    MAX_HEADER_FILE_SIZE,
    WITHOUT_EFFECT_IN_LAMBDA,
    CheckOptions,
    ClientOptions,
    DevOptions,
    LambdaOptions,
)

NO_HANDLER = "expected a module and the name of a function in it, such as app.handler"
NO_CLIENT = ClientOptions("/", ())
USUAL = CheckOptions(NO_CLIENT, "hello from wsaas check", 100, 60.0, is_json=False)


@pytest.mark.parametrize(
    ("given", "flags", "options"),
    [
        (["check"], {}, USUAL),
        (["check", "localhost:8000/hook"], {"api_uri": "localhost:8000/hook"}, USUAL),
        (["check", "--api-uri", "x"], {"api_uri": "x"}, USUAL),
        (["check", "--control-token=-x", "x"], {"api_uri": "x", "control_token": "-x"}, USUAL),
        (
            ["check", "--json", "--timeout", "1500", "--rate", "7", "--path", "/a?b=c", "--message", "hi"],
            {},
            CheckOptions(ClientOptions("/a?b=c", ()), "hi", 7, 1.5, is_json=True),
        ),
        (
            ["check", "--header", "Authorization: Bearer x", "--header", "X-A:1", "--header", "Empty:  "],
            {},
            CheckOptions(
                ClientOptions("/", (("Authorization", "Bearer x"), ("X-A", "1"), ("Empty", ""))),
                USUAL.message,
                100,
                60.0,
                is_json=False,
            ),
        ),
        (["dev", "--", "python", "x.py"], {}, DevOptions(NO_CLIENT, ("python", "x.py"), has_check=True)),
        (
            ["dev", "--no-check", "--ws-hostname", "a:1", "--path", "/a", "--", "x", "--", "-y"],
            {"ws_hostname": "a:1"},
            DevOptions(ClientOptions("/a", ()), ("x", "--", "-y"), has_check=False),
        ),
        (["lambda", "app.handler"], {}, LambdaOptions("app.handler")),
        (
            ["lambda", "src/app.handler", "--ws-hostname", "a:1"],
            {"ws_hostname": "a:1"},
            LambdaOptions("src/app.handler"),
        ),
        (["lambda", "a.b.c_2", "--", "--api-retry=0"], {"api_retry": "0"}, LambdaOptions("a.b.c_2")),
    ],
)
def test_a_command_has_settings_and_flags_of_its_own(given, flags, options):
    arguments = parse(given)
    assert arguments.command == given[0]
    assert {name: text for name, text in arguments.flags.items() if text is not None} == flags
    assert arguments.options == options


def test_headers_may_be_in_a_file(tmp_path):
    path = tmp_path / "headers"
    path.write_text("Authorization: Bearer x\n\nCookie: a=b\r\n")
    options = parse(["check", "--header", f"@{path}"]).options
    assert isinstance(options, CheckOptions)
    assert options.client.headers == (("Authorization", "Bearer x"), ("Cookie", "a=b"))


def test_a_file_with_headers_has_a_limit(tmp_path, capsys):
    path = tmp_path / "headers"
    path.write_text("A: 1\n" + "\n" * (MAX_HEADER_FILE_SIZE - 10) + "B: 2\n")
    options = parse(["check", "--header", f"@{path}"]).options
    assert isinstance(options, CheckOptions)
    assert options.client.headers == (("A", "1"), ("B", "2"))
    path.write_text("A: 1\n" + "\n" * MAX_HEADER_FILE_SIZE + "B: 2\n")
    with pytest.raises(SystemExit):
        parse(["check", "--header", f"@{path}"])
    assert f"{path} has more than {MAX_HEADER_FILE_SIZE} bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["check", "--jason"], "unrecognized arguments: --jason (did you mean --json?); see wsaas check --help"),
        (
            ["check", "--api-url=s3cret"],
            "unrecognized arguments: --api-url (did you mean --api-uri?); see wsaas check --help",
        ),
        (["check", "a", "b"], "unrecognized arguments: b; see wsaas check --help"),
        (
            ["check", "a", "--api-uri", "b"],
            "API_URI is given twice: by itself, and as --api-uri; see wsaas check --help",
        ),
        (["check", "--rate", "0"], "argument --rate: expected a number above 0; see wsaas check --help"),
        (
            ["check", "--timeout", "x"],
            "argument --timeout: expected a number of milliseconds above 0; see wsaas check --help",
        ),
        (
            ["check", "--path", "a"],
            "argument --path: expected a path that starts with /, percent-encoded; see wsaas check --help",
        ),
        (
            ["check", "--header", "s3cret"],
            "argument --header: expected 'Name: value' in visible ASCII, or @FILE; see wsaas check --help",
        ),
        (
            ["check", "--header", "@/nowhere"],
            "argument --header: /nowhere cannot be read: No such file or directory; see wsaas check --help",
        ),
        (["dev"], "the command of the backend is missing: wsaas dev -- python backend.py; see wsaas dev --help"),
        (["dev", "--"], "the command of the backend is missing: wsaas dev -- python backend.py; see wsaas dev --help"),
        (["dev", "python"], "unrecognized arguments: python; see wsaas dev --help"),
        (
            ["dev", "--no-chek", "--", "x"],
            "unrecognized arguments: --no-chek (did you mean --no-check?); see wsaas dev --help",
        ),
        (["lambda"], "the handler is missing: wsaas lambda app.handler; see wsaas lambda --help"),
        (["lambda", "app.handler", "more"], "unrecognized arguments: more; see wsaas lambda --help"),
        (
            ["lambda", "app.handler", "--ws-time-out=5"],
            "unrecognized arguments: --ws-time-out (did you mean --ws-timeout?); see wsaas lambda --help",
        ),
        *(
            (
                ["lambda", "app.handler", "--api-tls-ca=ca.pem", f"{unused}=x"],
                f"argument {unused}: it has no effect on a Lambda function in Python; see wsaas lambda --help",
            )
            for unused in ("--text-content-type", "--api-secret", "--api-secret-file")
        ),
        *(
            (
                ["lambda", wrong],
                f"argument HANDLER: {NO_HANDLER}; see wsaas lambda --help",
            )
            for wrong in ("app", "app.py.", ".handler", "../app.handler", "a b.c")
        ),
        (["--ws-timeout", "5", "lambda"], "write lambda before the flags: wsaas lambda ...; see wsaas --help"),
        (["--ws-timeout", "5", "check"], "write check before the flags: wsaas check ...; see wsaas --help"),
        (["--ws-timeout", "5", "dev"], "write dev before the flags: wsaas dev ...; see wsaas --help"),
    ],
)
def test_an_invalid_argument_exits_with_status_2_and_one_line(capsys, given, said):
    with pytest.raises(SystemExit) as caught:
        parse(given)
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", f"wsaas: {said}\n")


@pytest.mark.parametrize("command", ["check", "dev"])
def test_the_help_names_each_flag_and_the_exit_statuses(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit) as caught:
        parse([command, "--help"])
    assert caught.value.code == 0
    text, err = capsys.readouterr()
    assert err == ""
    for flag in ("--path", "--header", "--api-uri", "--ws-hostname", "Exit status"):
        assert flag in text
    assert ("--json" in text, "--no-check" in text) == (command == "check", command == "dev")
    assert "`" not in text
    assert text.startswith(f"usage: wsaas {command} ")
    assert len(text.splitlines()[0]) < 80


def test_the_help_of_the_program_names_the_commands(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: wsaas [command] [flags]\n")
    assert "check: try a backend" in text
    assert "dev: run a gateway and the command of a backend" in text
    assert "lambda: run a gateway and a Lambda function" in text


def test_the_help_breaks_no_address_and_no_name_of_a_header(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    for whole in ("docs/operations.md#tokens-of-browsers", "X-Forwarded-For"):
        assert whole in text


def test_the_help_of_lambda_names_its_argument_and_the_settings(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit) as caught:
        parse(["lambda", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: wsaas lambda HANDLER [flags]\n")
    for word in ("app.handler", "--api-timeout", "Exit status"):
        assert word in text
    for setting in (*WITHOUT_EFFECT_IN_LAMBDA, "event_format", "workers"):
        assert f"{settings.flag(setting)} " not in text


@pytest.mark.parametrize("command", ["dev", "lambda"])
def test_the_help_says_the_defaults_of_development(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit):
        parse([command, "--help"])
    text = capsys.readouterr().out
    assert "(required)" not in text
    assert "--workers" not in text
    assert f"(default: localhost:{dev.GATEWAY_PORT}, or another free port)" in text
    assert f"localhost:{dev.BACKEND_PORT}{dev.BACKEND_PATH}, or another free port" in text or command == "lambda"
    assert f"for a stop by SIGTERM or SIGINT (default: {dev.DRAIN_TIMEOUT_MS})" in text
