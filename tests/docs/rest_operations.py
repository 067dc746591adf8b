"""Writes the operations of the OpenAPI document in Markdown: the second half of docs/rest.md."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

from tests.support.openapi import DOCUMENT, codes, resolve

Json = dict[str, Any]

COMMON = ("Unauthorized", "Forbidden", "Misdirected", "HttpError")
"""Answers that any request may get, and the header of one of them: sentences above all operations say so."""
COMMON_PARAMETER = "Ws-Node"

_SERVER = "http://localhost:8080"


def operations() -> Iterator[str]:
    """Yield the blocks of Markdown, without headings above the third level."""
    for tag in DOCUMENT["tags"]:
        for path, item in DOCUMENT["paths"].items():
            for method in ("put", "post", "get", "delete"):
                if tag["name"] in item.get(method, {}).get("tags", ()):
                    yield from _operation(method, path, item)


def _operation(method: str, path: str, item: Json) -> Iterator[str]:
    described = item[method]
    yield f"### `{method.upper()} {path}`"
    yield " ".join([described["summary"], described.get("description", "")]).strip()
    parameters = [resolve(each) for each in item.get("parameters", []) + described.get("parameters", [])]
    parameters = [each for each in parameters if each["name"] != COMMON_PARAMETER]
    if parameters:
        rows = [f"| `{each['name']}` | {_place(each)} | {_meaning(each)} |" for each in parameters]
        yield "\n".join(["| parameter | in | meaning |", "| --- | --- | --- |", *rows])
    body = resolve(described["requestBody"]) if "requestBody" in described else None
    if body is not None:
        yield f"Body{'' if body.get('required') else ' (optional)'}: {body['description']}{_other_body(body)}"
    yield f"```sh\n{_command(method, path, parameters, body)}\n```"
    yield _answers(described["responses"])
    yield from _members(resolve(next(iter(described["responses"].values()))))


def _other_body(body: Json) -> str:
    """Return what a body of another media type contains, if its schema says so."""
    for media, content in list(body["content"].items())[1:]:
        if description := content["schema"].get("description", ""):
            return f" It may also be `{media}`: {description[0].lower()}{description[1:]}"
    return ""


def _place(parameter: Json) -> str:
    return f"{parameter['in']}, required" if parameter.get("required") else str(parameter["in"])


def _meaning(parameter: Json) -> str:
    schema = resolve(parameter["schema"])
    said = [parameter["description"]]
    if "default" in schema:
        said.append(f"Default: `{schema['default']}`.")
    if "maximum" in schema:
        said.append(f"{schema['minimum']:,} to {schema['maximum']:,}.")
    return _cell(" ".join(said))


def _command(method: str, path: str, parameters: list[Json], body: Json | None) -> str:
    """Return a request for curl, with the examples of the document."""
    target = path
    for each in parameters:
        if each["in"] == "path":
            target = target.replace(f"{{{each['name']}}}", resolve(each["schema"])["examples"][0])
    words = ["curl"]
    if method != "get":
        words += ["-X", method.upper()]
    if body is not None:
        media, content = next(iter(body["content"].items()))
        schema = resolve(content["schema"])
        example = content.get("example") or (schema.get("examples") or ["hello"])[0]
        words += [] if media == "*/*" else ["-H", f"Content-Type: {media}"]
        words += ["-d", example if isinstance(example, str) else json.dumps(example)]
    return shlex.join([*words, _SERVER + target])


def _answers(responses: Json) -> str:
    statuses: dict[str, list[str]] = {}
    for status, each in responses.items():
        if each.get("$ref", "").rpartition("/")[2] not in COMMON:
            meaning = f"{_codes(resolve(each))} | {_cell(resolve(each)['description'])}"
            statuses.setdefault(meaning, []).append(status)
    rows = [f"| {', '.join(each)} | {meaning} |" for meaning, each in statuses.items()]
    return "\n".join(["| answer | code | meaning |", "| --- | --- | --- |", *rows])


def _codes(response: Json) -> str:
    schema = response.get("content", {}).get("application/json", {}).get("schema")
    return ", ".join(f"`{each}`" for each in sorted(codes(schema))) if schema else ""


def _members(response: Json) -> Iterator[str]:
    """Yield the table of the members of a JSON answer, if it has others than its code."""
    schema = response.get("content", {}).get("application/json", {}).get("schema")
    members = {name: each for name, each in properties(schema or {}).items() if name not in {"code", "openapi"}}
    if members:
        rows = [f"| `{name}` | {_type(each)} | {_described(each)} |" for name, each in members.items()]
        yield "\n".join(["| member of the answer | type | meaning |", "| --- | --- | --- |", *rows])


def properties(schema: Json) -> Json:
    schema = resolve(schema)
    found: Json = dict(schema.get("properties", {}))
    for each in schema.get("allOf", ()):
        found |= properties(each)
    return found


def _whole(schema: Json) -> Json:
    """Return a schema with what it refers to; its own members come first."""
    return {**resolve({"$ref": schema["$ref"]}), **schema} if "$ref" in schema else schema


def _type(schema: Json) -> str:
    schema = _whole(schema)
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(f"`{each}`" for each in schema["enum"])
    kinds = schema.get("type", "object" if "allOf" in schema else "string")
    if kinds == "array":
        return f"list of {_type(schema['items'])}s"
    return " or ".join([kinds] if isinstance(kinds, str) else kinds)


def _described(schema: Json) -> str:
    whole = _whole(schema)
    nested = properties(whole["items"]) if "items" in whole else properties(whole)
    said = [whole.get("description", "")]
    if nested:
        said.append("Each has " if "items" in whole else "Has ")
        said[-1] += ", ".join(f"`{name}`" for name in nested) + "."
    return _cell(" ".join(said).strip())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
