"""Parses the command line into a command and the unparsed values of settings."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple, NoReturn

from wsaas import __version__, settings

COMMANDS = ("serve", "demo")
MIN_NODES, MAX_NODES = 2, 9


class Arguments(NamedTuple):
    """The parsed command line.

    `flags`: the text of each setting by its field name, None if it was not given; `nodes`: of the demo of a cluster.
    """

    command: str
    flags: dict[str, str | None]
    nodes: int | None = None


class _Parser(ArgumentParser):
    """Reports an error in one line. The usage, which lists all flags, would make the error scroll out of sight."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with status 2."""
        if message.endswith("expected one argument"):
            message += " (write --flag=VALUE if the value starts with -)"
        self.exit(2, f"wsaas: {message}; see wsaas --help\n")


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Parse `arguments`, by default those of the process. Exits on errors, `--help` and `--version`."""
    parser = _Parser(
        prog="wsaas",
        description="WebSocket as a Service: holds WebSockets for backends that speak plain HTTP.",
        epilog="Try 'wsaas demo' first: it brings its own backend and needs no setting.",
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", default="serve", help="serve (the default) or demo")
    parser.add_argument("--version", action="version", version=f"wsaas {__version__}")
    nodes = "demo: run N nodes (2 to 9) as a cluster; needs pip install 'wsaas[demo]'"
    parser.add_argument("--nodes", type=_node_count, metavar="N", help=nodes)
    settings.add_flags(parser)
    # Not `choices`: the value of an unknown flag would be taken for the command, and the error would not name the flag.
    known, others = parser.parse_known_args(arguments)
    flags = vars(known)
    command, nodes = flags.pop("command"), flags.pop("nodes")
    if options := [each for each in others if each.startswith("-")]:
        names = ["--version", "--help", "--nodes", *map(settings.flag, flags)]
        parser.error(f"unrecognized arguments: {_suggested(options, names)}")
    if command not in COMMANDS:
        parser.error(f"unrecognized command: {_suggested([command], COMMANDS)}; expected serve or demo")
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    if nodes and command != "demo":
        parser.error("argument --nodes: only for the demo (wsaas demo --nodes 3)")
    return Arguments(command, flags, nodes)


def _node_count(text: str) -> int:
    """Parse the number of nodes."""
    if not text.isdecimal() or not MIN_NODES <= int(text) <= MAX_NODES:
        raise ArgumentTypeError(f"{text!r} is not a number from {MIN_NODES} to {MAX_NODES}")
    return int(text)


def _suggested(given: Iterable[str], names: Sequence[str]) -> str:
    """Return `given`, each with the most similar of `names`."""
    words = []
    for each in given:
        name = each.partition("=")[0]
        close = get_close_matches(name, names, 1)
        words.append(f"{name} (did you mean {close[0]}?)" if close else name)
    return " ".join(words)
