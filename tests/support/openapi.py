"""Compares what goes over the wire with the OpenAPI document of the gateway.

The document is open: readers have to accept members that a later version adds. Here it is closed, so that a member or
header that is not described is an error.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from wsaas.api import openapi

DOCUMENT: dict[str, Any] = json.loads(Path(openapi.__file__).with_name("openapi.json").read_bytes())
METHODS = ("get", "head", "put", "post", "delete")
OF_ANSWERS = {"connection", "content-length", "content-type", "date"}
"""Headers that any answer may have, which OpenAPI does not describe."""
OF_REQUESTS = {"authorization", "content-type"}
"""Headers of requests that OpenAPI describes elsewhere: as `security`, and with the body."""

CONSOLE = re.compile(r"(/[^/?]+)?/console(/api/|\?|$)")
"""What comes before, at most, is the path of `WS_HOSTNAME`."""

AZURE = re.compile(r"(/[^/?]+)?/api/hubs/")
"""As above. These paths are described by Azure."""

_BASE = "urn:openapi"
_WEBHOOKS = {"POST": "connect", "PUT": "message", "DELETE": "disconnect"}


class NotDescribed(AssertionError):
    """Something is not in the document."""


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of each operation in `paths`."""
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def resolve(node: Any) -> Any:
    """Follow the reference that `node` is, if it is one."""
    while "$ref" in node and len(node) == 1:
        node = at(DOCUMENT, node["$ref"])
    return node


def at(document: Any, reference: str) -> Any:
    """Return what a reference within the document is to."""
    for key in reference.removeprefix("#/").split("/"):
        document = document[key.replace("~1", "/").replace("~0", "~")]
    return document


def check_answer(method: str, target: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Raise unless an answer of the REST API is described. For other paths and methods, it has to be an error.

    The API of the console is not described: it is only for the page that the same gateway serves. Nor is that of Azure.
    """
    if CONSOLE.match(target) or AZURE.match(target):
        return
    operation = _operation(method, target)
    if operation is None:
        if status < 400:
            raise NotDescribed(f"{method} {target}: {status}")
        return
    responses = operation["responses"]
    response = resolve(responses.get(str(status)) or responses["default"])
    check_headers(response.get("headers", {}), headers)
    if "content" not in response:
        if body:
            raise NotDescribed(f"{method} {target}: {status} has a body")
        # The answer to a HEAD shows its status only.
        if str(status) not in responses and status not in statuses(DOCUMENT["components"]["responses"]["HttpError"]):
            raise NotDescribed(f"{method} {target}: {status}")
        return
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "").partition(";")[0]
    if kind not in response["content"]:
        raise NotDescribed(f"{method} {target}: {status} has a body of type {kind!r}")
    if kind == "application/json":
        _check(response["content"][kind]["schema"], json.loads(body))
    else:
        body.decode()


def check_headers(described: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """Raise unless all headers of an answer are described, and those that are required are there."""
    known = {name.lower(): resolve(each) for name, each in described.items()}
    found = {name.lower(): value for name, value in headers.items()}
    for name in found.keys() - OF_ANSWERS:
        if name not in known:
            raise NotDescribed(f"the header {name}")
        _check_text(known[name]["schema"], found[name])
    missing = {name for name, each in known.items() if each.get("required")} - found.keys()
    if missing:
        raise NotDescribed(f"an answer without {missing}")


def check_webhook(method: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raise unless a request to the backend is described. `headers`: by names in lower case.

    One that is replayed from the console has another `ce-id`, and a mark.
    """
    if headers.get("ws-replay") == "1":
        event, mark, _ = headers["ce-id"].rpartition(":replay-")
        assert mark
        unmarked = {name: value for name, value in headers.items() if name != "ws-replay"}
        headers = {name: event if name in {"ce-id", "webhook-id"} else value for name, value in unmarked.items()}
    operation = DOCUMENT["webhooks"][_WEBHOOKS[method]][method.lower()]
    parameters = {each["name"].lower(): each for each in map(resolve, operation["parameters"])}
    for name, value in headers.items():
        if name not in OF_REQUESTS:
            if name not in parameters:
                raise NotDescribed(f"the header {name}")
            _check_text(parameters[name]["schema"], value)
    missing = {name for name, each in parameters.items() if each.get("required")} - headers.keys()
    if missing:
        raise NotDescribed(f"a request without {missing}")
    content = operation["requestBody"]["content"]
    kind = headers.get("content-type", "")
    if kind not in content:
        raise NotDescribed(f"a body of type {kind!r}")
    if kind == "application/json":
        _check(content[kind]["schema"], json.loads(body))
    elif kind.startswith("text/"):
        body.decode()


def statuses(response: Mapping[str, Any]) -> set[int]:
    """Return the statuses that the text of a response names."""
    return {int(each) for each in re.findall(r"\b[45]\d\d\b", response["description"])}


def codes(schema: Mapping[str, Any]) -> set[str]:
    """Return the error codes that the schema of a response names."""
    code = schema.get("properties", {}).get("code", {})
    return {code["const"]} if "const" in code else set(code.get("enum", ()))


def _operation(method: str, target: str) -> dict[str, Any] | None:
    path = unquote(target.partition("?")[0])
    for pattern, template in _PATTERNS:
        if pattern.fullmatch(path):
            found: dict[str, Any] | None = DOCUMENT["paths"][template].get(method.lower())
            return found
    return None


def _pattern(template: str) -> re.Pattern[str]:
    """Return a pattern for the paths of a template, behind whatever may stand before them."""
    escaped = re.escape(template).replace(r"\{id\}", "[A-Za-z0-9_-]{30}").replace(r"\{name\}", "[^/]*")
    return re.compile(f".*{escaped}")


_PATTERNS = [(_pattern(each), each) for each in sorted(DOCUMENT["paths"], key=len, reverse=True)]


def _check(schema: Mapping[str, Any], value: Any) -> None:
    error = next(_validator(json.dumps(schema)).iter_errors(value), None)
    if error is not None:
        raise error


def _check_text(schema: Mapping[str, Any], text: str) -> None:
    """Check the value of a header, which is a number if its schema says so."""
    is_number = resolve(schema).get("type") == "integer" and re.fullmatch("[0-9]+", text)
    _check(schema, int(text) if is_number else text)


@lru_cache(maxsize=256)
def _validator(schema: str) -> Draft202012Validator:
    """Return the validator for a schema of the document, in which references are to the closed document."""
    closed = json.loads(schema.replace('"#/', f'"{_BASE}#/'))
    return Draft202012Validator(closed, registry=_REGISTRY, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _close(node: Any, *, is_part: bool = False) -> None:
    """Forbid members that a schema does not describe, in each schema within `node`.

    `is_part`: `node` is a part of a larger schema, which is closed instead.
    """
    if isinstance(node, list):
        for each in node:
            _close(each)
    elif isinstance(node, dict):
        if "allOf" in node:
            node["unevaluatedProperties"] = False
        elif node.get("type") == "object" and not is_part:
            node.setdefault("additionalProperties", False)
        for key, each in node.items():
            if key == "allOf":
                for part in each:
                    _close(part, is_part=True)
            else:
                _close(each, is_part=each is _FIELDS)


_CLOSED = copy.deepcopy(DOCUMENT)
_FIELDS = _CLOSED["components"]["schemas"]["ConnectionFields"]
"""The part that two schemas have in common."""
_close(_CLOSED)
_REGISTRY: Registry[Any] = Registry().with_resource(_BASE, DRAFT202012.create_resource(_CLOSED))

__all__ = ["DOCUMENT", "NotDescribed", "ValidationError", "check_answer", "check_webhook", "operations", "resolve"]
