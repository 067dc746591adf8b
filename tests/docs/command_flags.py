"""Writes the commands and their flags in Markdown: the second half of docs/command-line.md."""

from argparse import SUPPRESS, ArgumentParser
from collections.abc import Iterator
from dataclasses import fields
from unittest.mock import patch

from wsaas import settings
from wsaas.cli import arguments

OF_SETTINGS = {settings.flag(each.name) for each in fields(settings.Settings)}


class _Found(Exception):
    """The parser of a command, before it parses anything."""


def parser_of(command: str) -> ArgumentParser:
    """Return the parser of a command; that of `serve` and `demo` is the one without a command of its own."""

    def stop(parser: ArgumentParser, *_: object) -> None:
        raise _Found(parser)

    given = [] if command in {"serve", "demo"} else [command]
    try:
        with patch.object(ArgumentParser, "parse_known_args", stop):
            arguments.parse([*given, "--", "a-program"])
    except _Found as found:
        parser: ArgumentParser = found.args[0]
        return parser
    raise AssertionError(f"nothing was parsed for {command}")


def described() -> Iterator[str]:
    """Yield the blocks of Markdown of all commands."""
    yield "## `wsaas serve` and `wsaas demo`"
    yield _flags(parser_of("serve"))
    for command in arguments.COMMANDS:
        if command not in {"serve", "demo"}:
            parser = parser_of(command)
            yield f"## `wsaas {command}`"
            yield f"`{' '.join(parser.format_usage().removeprefix('usage: ').replace('[-h] ', '').split())}`"
            yield parser.description or ""
            yield _flags(parser)
            if parser.epilog:
                yield parser.epilog


def _flags(parser: ArgumentParser) -> str:
    """Return the table of the flags of a command that are not settings."""
    rows = list(_rows(parser))
    return "\n".join(["| flag | meaning |", "| --- | --- |", *rows]) if rows else "It has no flags of its own."


def _rows(parser: ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 - argparse shows them in no other way, except as the text of --help
        names = [each for each in action.option_strings if each not in OF_SETTINGS]
        if not names or "--help" in names or action.help == SUPPRESS:
            continue
        value = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
        named = ", ".join(f"`{each}{value}`" for each in names)
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield f"| {named} | {text.replace('|', chr(92) + '|')} |"
