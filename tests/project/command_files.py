# ruff: noqa: SLF001 - argparse has no public way to list the actions of a parser
"""Makes the completion scripts and the man page of the parsers: `python -m tests.project.command_files` writes them."""

import re
from argparse import SUPPRESS, Action
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import shtab

from wsaas.cli import arguments
from wsaas.cli.command_options import DEMO_FLAGS
from wsaas.settings import Settings

ROOT = Path(__file__).parents[2]
MAN_PAGE = ROOT / "deploy" / "man" / "wsaas.1"

COMMANDS = {
    "serve": "run a gateway (the default)",
    "demo": "run a gateway with an example backend, to try it",
    "check": "try a backend, and say what is wrong with it",
    "dev": "run a gateway and the command of a backend together",
    "lambda": "run a gateway and a Lambda function in Python together",
    "completion": "print a script that completes this command in a shell",
}
PARSERS = {
    "serve": arguments.main_parser,
    "demo": arguments.main_parser,
    "check": arguments.check_parser,
    "dev": arguments.dev_parser,
    "lambda": arguments.lambda_parser,
    "completion": arguments.completion_parser,
}
_CHOICES = re.compile(r"[\w-]+(?:, [\w-]+)* or [\w-]+")
_DOCS = "https://github.com/wsaas/wsaas/blob/main/docs/index.md"


def completion_script(shell: str) -> str:
    """Return the script that completes `wsaas` in `shell`."""
    parser = arguments.main_parser()
    # In place, as the groups of the parser share the list.
    parser._actions[:] = [each for each in parser._actions if each.dest != "command"]
    commands = parser.add_subparsers(dest="command")
    for name, help_text in COMMANDS.items():
        made = PARSERS[name]()
        listed = [each for each in made._actions if each.help != SUPPRESS]
        kept = [each for each in listed if each.dest not in {"help", "command", "version"}]
        command = commands.add_parser(name, help=help_text, conflict_handler="resolve")
        for action in kept:
            if name != "serve" or action.dest not in DEMO_FLAGS:
                command._add_action(_with_values(action))
    for action in parser._actions:
        _with_values(action)
    return shtab.complete(parser, shell=shell).rstrip("\n") + "\n"


def _with_values(action: Action) -> Action:
    """Return `action` with the values that a shell may complete, and with a description of one line."""
    found = next((each for each in fields(Settings) if each.name == action.dest), None)
    if found is not None:
        accepts = found.metadata["kind"].accepts
        if _CHOICES.fullmatch(accepts):
            action.choices = re.split(", | or ", accepts)
        elif accepts.startswith("the path of"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it
        action.help = re.split(r"[.:;] | \(", str(action.help))[0].replace("%%", "%")
    return action


def man_page() -> str:
    """Return the man page `wsaas(1)`, in the macros of man(7)."""
    main = arguments.main_parser()
    lines = [
        '.\\" Made by: python -m tests.project.command_files',
        '.TH WSAAS 1 "" WSaaS',
        ".SH NAME",
        "wsaas \\- hold WebSocket connections for backends that speak plain HTTP",
        ".SH SYNOPSIS",
    ]
    for name in COMMANDS:
        lines += [".B wsaas", _roff(_synopsis(name)), ".br"]
    lines[-1:] = [".SH DESCRIPTION", _roff(str(main.description)), _roff(str(main.epilog)), ".SH COMMANDS"]
    for name, help_text in COMMANDS.items():
        lines += [".TP", f".B {name}", _roff(f"{help_text[0].upper()}{help_text[1:]}.")]
    for name in ("check", "dev", "lambda"):
        made = PARSERS[name]()
        lines += [f".SH {name.upper()}", *_paragraphs(str(made.description))]
        lines += _flags(action for action in made._actions if action.dest not in _settings())
        lines += [".PP", _roff(str(made.epilog))]
    lines += [
        ".SH OPTIONS",
        *_flags(action for action in main._actions if action.dest not in {*_settings(), "command"}),
    ]
    lines += [".SH SETTINGS", "Each is also an environment variable, such as"]
    lines += [_roff("API_URI for --api-uri. A flag wins.")]
    lines += _flags(action for action in main._actions if action.dest in _settings())
    lines += [".SH SIGNALS", ".TP", ".B SIGTERM, SIGINT", "Close the clients, deliver what waits, and exit."]
    lines += [".TP", ".B SIGHUP", "Read the files of certificates and secrets again."]
    lines += [".SH EXIT STATUS", ".TP", ".B 0", "Everything was delivered, or is in the journal.", ".TP", ".B 1"]
    lines += ["The gateway could not start, or something was not delivered.", ".TP", ".B 2", "A setting is invalid."]
    lines += [".SH SEE ALSO", _roff(f"The documentation: {_DOCS}")]
    return "\n".join(lines) + "\n"


def _settings() -> set[str]:
    return {each.name for each in fields(Settings)}


def _synopsis(name: str) -> str:
    if name in {"serve", "demo"}:
        return "[serve] [flags]" if name == "serve" else "demo [--nodes N] [--host ADDRESS] [--port N] [flags]"
    usage = str(PARSERS[name]().usage)
    return "completion bash|zsh|fish" if name == "completion" else usage.removeprefix("wsaas ")


def _flags(actions: Iterator[Action]) -> list[str]:
    lines: list[str] = []
    for action in actions:
        if action.help == SUPPRESS or action.dest == "help":
            continue
        names = ", ".join(action.option_strings) or str(action.metavar)
        value = f" \\fI{_roff(str(action.metavar))}\\fR" if action.option_strings and action.metavar else ""
        lines += [".TP", f"\\fB{_roff(names)}\\fR{value}", _roff(str(action.help).replace("%%", "%"))]
    return lines


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines += [".PP", _roff(" ".join(paragraph.split()))]
    return lines[1:]


def _roff(text: str) -> str:
    """Return `text` on one line, with its special characters escaped."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def files() -> dict[Path, str]:
    """Return what belongs into each file."""
    folder = ROOT / "wsaas" / "cli" / "completions"
    scripts = {folder / f"wsaas.{shell}": completion_script(shell) for shell in arguments.SHELLS}
    return {**scripts, MAN_PAGE: man_page()}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
