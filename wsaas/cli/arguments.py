"""Parses the command line into a command, its own flags, and the unparsed values of settings."""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from textwrap import wrap
from typing import Final, NamedTuple, NoReturn

from wsaas import __version__, settings
from wsaas.build_kind import BUILD
from wsaas.cli.command_options import (
    DEMO_FLAGS,
    HIDDEN_BY_DEV,
    HIDDEN_BY_LAMBDA,
    WITHOUT_EFFECT_IN_LAMBDA,
    CheckOptions,
    CompletionOptions,
    DemoOptions,
    DevOptions,
    LambdaOptions,
    add_check_flags,
    add_demo_flags,
    add_dev_flags,
    check_options,
    demo_options,
    dev_options,
    handler,
)

COMMANDS: Final = ("serve", "demo", "check", "dev", "lambda", "completion")
SHELLS: Final = ("bash", "zsh", "fish")
_OWN_FLAGS: Final = frozenset({"check", "dev", "lambda", "completion"})
"""Commands with flags of their own, so they come before all flags."""
_POSITIONAL: Final = frozenset({"backend", "handler"})
_HELP: Final = (
    "serve (the default): run a gateway. demo: run one with an example backend; it ignores the environment. check: try \
a backend and say what is wrong with it. dev: run a gateway and the command of a backend together. lambda: run a \
gateway and a Lambda function in Python together. completion: print a script that completes this command in a shell. \
'wsaas check --help' and the like list the flags of a command"
)

_CHECK: Final = """\
Tries a backend before a client does, with the requests of a gateway, and prints a line for each check:
OK, WARN (works, but see the advice) or FAIL (breaks the contract).

A client connects, sends messages of each kind, and closes. Further ones may be refused: they offer an unknown
subprotocol, or have no credentials. A DELETE is for a client that never connected. The header wsaas-check in each
handshake tells the backend that this is a check. To try pushes, the check listens where the gateway would (LISTEN,
CONTROL_LISTEN), so stop the gateway before, or choose other addresses."""
_CHECK_END: Final = "Exit status: 0 without a FAIL; 1 with one; 2 for an invalid setting or flag."

_DEV: Final = """\
Runs a gateway and the command of a backend together, and checks the backend once it listens. Ctrl-C ends both;
the end of the command ends the gateway, with the exit status of the command.

The command gets the port to listen on in the variable PORT, and in place of {port} in its arguments. It also gets
API_URI and WS_HOSTNAME. Without settings, gateway and backend use free ports on localhost."""
_DEV_END: Final = (
    "Exit status: that of the command; 127 if it was not found; after Ctrl-C 0, or 1 if a DELETE was not delivered; "
    "2 for an invalid setting or flag."
)

_LAMBDA: Final = """\
Runs a gateway and a Lambda function in Python that was written for a WebSocket API of AWS API Gateway. HANDLER is the
module and the name of the function, as in the settings of AWS: app.handler is handler(event, context) in app.py in the
current folder. Ctrl-C ends both.

boto3.client("apigatewaymanagementapi") in the function leads to the gateway. API_TIMEOUT is the time limit of an
invocation. With API_CONNECTIONS=1, there is one invocation at a time."""
_LAMBDA_END: Final = (
    "Exit status: after Ctrl-C 0, or 1 if a DELETE was not delivered; 2 for an invalid setting or flag, and if the "
    "function cannot be imported."
)

_DEV_DEFAULTS: Final = {
    "api_uri": "localhost:8000/websocket, or another free port",
    "ws_hostname": "localhost:8080, or another free port",
    "drain_timeout": "3000",
}
_LAMBDA_DEFAULTS: Final = {**_DEV_DEFAULTS, "api_uri": "port 8000 of localhost, or another free port"}

_COMPLETION: Final = """\
Prints a script by which a shell completes the commands and flags of wsaas. The first lines of the script say where to
put it; docs/install.md has a command for each shell."""


class Arguments(NamedTuple):
    """The parsed command line.

    `flags`: the text of each setting by its field name, None if it was not given; `options`: the flags of the command
    that are not settings.
    """

    command: str
    flags: dict[str, str | None]
    options: CheckOptions | DemoOptions | DevOptions | LambdaOptions | CompletionOptions | None = None


class _HelpFormatter(RawDescriptionHelpFormatter):
    """Breaks no line within a word with a hyphen, such as an address or the name of a header."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(" ".join(text.split()), width, break_on_hyphens=False)


class _Parser(ArgumentParser):
    """Reports an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with status 2."""
        if message.endswith("expected one argument"):
            message += " (write --flag=VALUE if the value starts with -)"
        self.exit(2, f"wsaas: {message}; see {self.prog} --help\n")


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Parse `arguments`, by default those of the process. Exits on errors, `--help` and `--version`."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["check"]:
        return _parse_check(given[1:])
    if given[:1] == ["dev"]:
        return _parse_dev(given[1:])
    if given[:1] == ["lambda"]:
        return _parse_lambda(given[1:])
    if given[:1] == ["completion"]:
        parsed = completion_parser().parse_args(given[1:])
        return Arguments("completion", {}, options=CompletionOptions(parsed.shell))
    return _parse_main(given)


def main_parser() -> _Parser:
    """Return the parser of `serve` and `demo`."""
    parser = _Parser(
        prog="wsaas",
        usage="wsaas [command] [flags]",
        description="WebSocket as a Service: holds WebSockets for backends that speak plain HTTP.",
        epilog="Try 'wsaas demo' first: it brings its own backend and needs no setting.",
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("command", nargs="?", default="serve", help=_HELP)
    parser.add_argument("--version", action="version", version=f"wsaas {__version__} ({BUILD})")
    add_demo_flags(parser)
    settings.add_flags(parser)
    return parser


def _parse_main(given: Sequence[str]) -> Arguments:
    parser = main_parser()
    # Not `choices`: the value of an unknown flag would be taken for the command, and the error would not name the flag.
    known, others = parser.parse_known_args(given)
    flags = vars(known)
    command, options = flags.pop("command"), demo_options(flags)
    own = [settings.flag(name) for name in DEMO_FLAGS]
    _refuse_unknown_flags(parser, others, ["--version", *own, *map(settings.flag, flags)])
    if command in _OWN_FLAGS:
        parser.error(f"write {command} before the flags: wsaas {command} ...")
    if command not in COMMANDS:
        expected = f"{', '.join(COMMANDS[:-1])} or {COMMANDS[-1]}"
        parser.error(f"unrecognized command: {_suggested([command], COMMANDS)}; expected {expected}")
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    if command != "demo":
        if given_own := [settings.flag(name) for name in DEMO_FLAGS if getattr(options, name) is not None]:
            parser.error(f"argument {given_own[0]}: only for the demo (wsaas demo {given_own[0]} ...)")
        return Arguments(command, flags)
    return Arguments(command, flags, options)


def check_parser() -> _Parser:
    """Return the parser of `check`."""
    parser = _Parser(
        prog="wsaas check",
        usage="wsaas check [API_URI] [flags]",
        description=_CHECK,
        epilog=_CHECK_END,
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
    )
    add_check_flags(parser)
    settings.add_flags(parser)
    return parser


def _parse_check(given: Sequence[str]) -> Arguments:
    parser = check_parser()
    parsed, flags = _parse_flags(parser, given)
    if parsed.backend is not None:
        if flags["api_uri"] is not None:
            parser.error("API_URI is given twice: by itself, and as --api-uri")
        flags["api_uri"] = parsed.backend
    return Arguments("check", flags, options=check_options(parsed))


def dev_parser() -> _Parser:
    """Return the parser of `dev`, without the command behind `--`."""
    parser = _Parser(
        prog="wsaas dev",
        usage="wsaas dev [flags] -- COMMAND [ARGUMENT ...]",
        description=_DEV,
        epilog=_DEV_END,
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
    )
    add_dev_flags(parser)
    settings.add_flags(parser, _DEV_DEFAULTS, HIDDEN_BY_DEV)
    return parser


def _parse_dev(given: Sequence[str]) -> Arguments:
    parser = dev_parser()
    end = given.index("--") if "--" in given else len(given)
    parsed, flags = _parse_flags(parser, given[:end])
    command = tuple(given[end + 1 :])
    if not command:
        parser.error("the command of the backend is missing: wsaas dev -- python backend.py")
    return Arguments("dev", flags, options=dev_options(parsed, command))


def lambda_parser() -> _Parser:
    """Return the parser of `lambda`."""
    parser = _Parser(
        prog="wsaas lambda",
        usage="wsaas lambda HANDLER [flags]",
        description=_LAMBDA,
        epilog=_LAMBDA_END,
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("handler", nargs="?", type=handler, metavar="HANDLER", help="such as app.handler")
    settings.add_flags(parser, _LAMBDA_DEFAULTS, HIDDEN_BY_LAMBDA)
    return parser


def completion_parser() -> _Parser:
    """Return the parser of `completion`."""
    parser = _Parser(prog="wsaas completion", description=_COMPLETION, formatter_class=_HelpFormatter)
    parser.add_argument("shell", choices=SHELLS, help="the shell that completes the command")
    return parser


def _parse_lambda(given: Sequence[str]) -> Arguments:
    parser = lambda_parser()
    parsed, flags = _parse_flags(parser, [each for each in given if each != "--"])
    if parsed.handler is None:
        parser.error("the handler is missing: wsaas lambda app.handler")
    if unused := [settings.flag(name) for name in WITHOUT_EFFECT_IN_LAMBDA if flags[name] is not None]:
        parser.error(f"argument {unused[0]}: it has no effect on a Lambda function in Python")
    return Arguments("lambda", flags, options=LambdaOptions(parsed.handler))


def _parse_flags(parser: _Parser, given: Sequence[str]) -> tuple[Namespace, dict[str, str | None]]:
    """Parse the flags of a command and the settings; return the former and the latter."""
    parsed, others = parser.parse_known_args(given)
    flags = {each.name: getattr(parsed, each.name) for each in fields(settings.Settings)}
    _refuse_unknown_flags(parser, others, [settings.flag(name) for name in vars(parsed) if name not in _POSITIONAL])
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    return parsed, flags


def _refuse_unknown_flags(parser: _Parser, others: Iterable[str], names: Sequence[str]) -> None:
    """Exit if there are flags in `others`, which the parser did not recognize."""
    if options := [each for each in others if each.startswith("-")]:
        parser.error(f"unrecognized arguments: {_suggested(options, [*names, '--help'])}")


def _suggested(given: Iterable[str], names: Sequence[str]) -> str:
    """Return `given`, each with the most similar of `names`."""
    words = []
    for each in given:
        name = each.partition("=")[0]
        close = get_close_matches(name, names, 1)
        words.append(f"{name} (did you mean {close[0]}?)" if close else name)
    return " ".join(words)
