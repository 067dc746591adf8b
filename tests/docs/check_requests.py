"""Checks of requests that curl sends to the gateway: the OpenAPI document has them."""

import re
from urllib.parse import parse_qs, urlsplit

from tests.docs.code_blocks import Block
from tests.support.openapi import DOCUMENT, resolve

GATEWAY_PORTS = {8080, 8081}
METHODS = {"-d": "POST", "--data": "POST", "--data-binary": "POST", "--json": "POST", "-T": "PUT"}
"""The method that curl uses because of a flag."""

WITH_VALUE = {*METHODS, "-H", "-X", "-b", "-c", "-o", "-u", "-w", "--aws-sigv4", "--cacert", "--cert"}
WITH_VALUE |= {"--header", "--key", "--max-time", "--output", "--request", "--resolve", "--retry", "--retry-delay"}
WITH_VALUE |= {"--unix-socket", "--user"}

NOT_DESCRIBED = re.compile(r"/(console(/.*)?|api/hubs/.+)")
"""The page of the console, and the API of Azure."""


def check_curl(words: list[str], _block: Block) -> None:
    """Raise unless a request to the gateway is one that it has."""
    flags, urls = options(words)
    assert urls, "curl needs an address"
    named = [value for flag, value in flags if flag in {"-X", "--request"}]
    implied = [METHODS[flag] for flag, _ in flags if flag in METHODS]
    head = ["HEAD"] if {"-I", "--head"} & {flag for flag, _ in flags} else []
    method = [*named, *head, *implied, "GET"][0]
    is_handshake = "upgrade: websocket" in [value.lower() for _, value in flags]
    for url in urls:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.port in GATEWAY_PORTS and not is_handshake:
            check_request(method, parts.path or "/", parts.query)


def options(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the flags of curl, each with its value, and the addresses."""
    flags, urls, rest = [], [], iter(words)
    for word in rest:
        if word in WITH_VALUE:
            flags.append((word, next(rest)))
        elif word.startswith("-"):
            flags.append((word, ""))
        else:
            urls.append(word)
    return flags, urls


def check_request(method: str, path: str, query: str) -> None:
    """Raise unless the gateway has this request, with these parameters."""
    if NOT_DESCRIBED.fullmatch(path):
        return
    found = [item for template, item in DOCUMENT["paths"].items() if _pattern(template).fullmatch(path)]
    assert found, f"the gateway has no path {path}"
    assert method.lower() in found[0], f"{path} does not support {method}"
    described = found[0].get("parameters", []) + found[0][method.lower()].get("parameters", [])
    names = {each["name"] for each in map(resolve, described) if each["in"] == "query"}
    assert set(parse_qs(query, keep_blank_values=True)) <= names, f"{method} {path} has no such parameter: {query}"


def _pattern(template: str) -> re.Pattern[str]:
    """Return the form of the paths that a template stands for."""
    forms = {"{id}": r"([A-Za-z0-9_-]{30}|\$\w+)", "{name}": r"[A-Za-z0-9._~:@!-]{1,128}"}
    stage = "(/[^/]+)?" if template.startswith("/@connections") else ""
    return re.compile(stage + re.sub(r"\{\w+\}", lambda found: forms[found[0]], template))
