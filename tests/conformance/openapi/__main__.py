"""Sends requests made of the OpenAPI document to a gateway: `python -m tests.conformance.openapi [OPTION...]`.

Schemathesis makes valid and invalid requests, the same each time, and compares the answers with the document. An OPTION
is one of `schemathesis run`: `--max-examples 1000`, `--seed 7`.
"""

import asyncio
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote

import schemathesis
from schemathesis.cli import schemathesis as schemathesis_cli
from schemathesis.core.parameters import ParameterLocation

from tests.conformance.openapi.clients import Clients, running_backend
from tests.support.openapi import check_answer
from tests.support.ports import free_port
from tests.support.program import gateway_program

CLIENTS = 4
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def batch(text: object) -> bytes:
    """Return a body of several lines for a generated `text`, unless that is such a body itself."""
    if not isinstance(text, str):
        return str(text).encode()
    lines = [{"to": [], "text": text}, {"to": ["A" * 30], "base64": ""}]
    return text.encode() if text.startswith('{"to"') else b"\n".join(json.dumps(line).encode() for line in lines)


def use_client(path_parameters: dict[str, str], clients: Clients) -> None:
    """Let a path be about one of the clients; one in four is about no connection."""
    number = ord(path_parameters["id"][0])
    # Schemathesis checks again what is changed here, and would take an encoded name for an invalid one.
    decoded = {key: unquote(value) for key, value in path_parameters.items()}
    # But a path with the name `.` or `..` has to stay encoded.
    if number % 4 and decoded.get("name", "lobby").strip("."):
        path_parameters |= {**decoded, "id": clients.id(number)}


def install(clients: Clients) -> None:
    """Let most paths be about clients, and check the answers in full."""

    def before_call(_context: Any, case: Any, **_kwargs: Any) -> None:
        clients.reconnect()
        path = case.meta.components.get(ParameterLocation.PATH)
        if path is not None and path.mode.is_positive and "id" in case.path_parameters:
            use_client(case.path_parameters, clients)

    def is_described(_context: Any, response: Any, case: Any) -> None:
        headers = {name: values[0] for name, values in response.headers.items()}
        target = response.request.path_url
        check_answer(case.method, target, response.status_code, headers, response.content or b"")

    schemathesis.serializer("application/x-ndjson")(lambda _context, value: batch(value))
    # Registered by its name.
    schemathesis.hook(before_call)
    schemathesis.check(is_described)


def main(options: list[str]) -> None:
    """Run Schemathesis, and exit with its status."""
    port = free_port()
    with TemporaryDirectory() as folder, running_backend() as backend:
        program = gateway_program(f"127.0.0.1:{backend}/hook", port, Path(folder) / "log", {"control_token": "s3cret"})
        asyncio.run(program.start())
        try:
            clients = Clients(f"ws://127.0.0.1:{port}/room", CLIENTS)
            install(clients)
            document = f"http://127.0.0.1:{port}/openapi.json"
            schemathesis_cli.main(["--config-file", str(CONFIGURATION), "run", document, *options], "schemathesis")
        finally:
            program.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
