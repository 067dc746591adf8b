"""The OpenAPI document is valid, and says what the code and the documentation say.

`tests/support/openapi.py` compares it with what goes over the wire in all other tests.
"""

import re
from http import HTTPStatus
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.documentation import faults, section
from tests.support.fakes import (
    FakeBreaker,
    FakeClock,
    FakePool,
    FakeWebhook,
    make_closed,
    make_metrics,
    make_opened,
    make_settings,
)
from tests.support.openapi import DOCUMENT, codes, operations, resolve, statuses
from wsaas import errors
from wsaas.api import listing
from wsaas.api.api import Api
from wsaas.counters import Counters
from wsaas.delivery.journal import NoJournal
from wsaas.delivery.message_answer import MAX_CONTEXT
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.events import Message
from wsaas.grammar import MAX_GROUP_NAME
from wsaas.http.headers import ACTION_HEADERS
from wsaas.http.trace_context import TraceContext
from wsaas.run_queue import RunQueue
from wsaas.sessions.fan_out import FanOutQueue
from wsaas.sessions.publication import MAX_NAMED
from wsaas.sessions.registry import ID_FORM, Registry
from wsaas.sessions.session_state import State
from wsaas.websocket.frames import MAX_REASON

SCHEMAS = DOCUMENT["components"]["schemas"]
RESPONSES = DOCUMENT["components"]["responses"]
STATUS = {code: status for status, code in faults()}
HANDSHAKE_ONLY = {"BAD_GATEWAY"}
"""Errors that no REST request gets. That of an unsupported method is described for all paths together."""
OF_ANY_REQUEST = {"UNAUTHORIZED", "FORBIDDEN"}
OF_CONSOLE = {"TOO_MANY_VIEWERS"}
"""The console is not described."""
OF_PEERS = {"MISDIRECTED", "UNKNOWN", "GATEWAY_TIMEOUT"}


def errors_of(response: dict[str, Any]) -> set[str]:
    """Return the error codes of a response."""
    return codes(resolve(response)["content"]["application/json"]["schema"])


def walk(node: Any, path: str = "#") -> Any:
    """Yield all objects in the document, with their places."""
    if isinstance(node, dict):
        yield path, node
        for key, each in node.items():
            yield from walk(each, f"{path}/{key}")
    elif isinstance(node, list):
        for number, each in enumerate(node):
            yield from walk(each, f"{path}/{number}")


def test_the_document_is_valid():
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_each_schema_is_valid_and_its_examples_are_of_it():
    for name, schema in SCHEMAS.items():
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]})
        for example in schema.get("examples", ()):
            validator.validate(example)


def test_each_component_is_used():
    used = {node["$ref"] for _, node in walk(DOCUMENT) if "$ref" in node}
    defined = {f"#/components/{kind}/{name}" for kind, each in DOCUMENT["components"].items() for name in each}
    named = {f"#/components/securitySchemes/{name}" for name in DOCUMENT["components"]["securitySchemes"]}
    assert used == defined - named


def test_operations_have_unique_names():
    names = [node["operationId"] for _, node in walk(DOCUMENT) if "operationId" in node]
    assert len(names) == len(set(names))


def test_the_paths_are_the_routes():
    clock, settings = FakeClock(), make_settings()
    registry = Registry(settings, clock, FakeWebhook(), NoJournal(), 10)
    api = Api(settings, registry, FanOutQueue(RunQueue(clock), 1), metrics=make_metrics(Counters()))
    described: dict[str, set[str]] = {}
    public = {}
    for method, path, operation in operations():
        described.setdefault(path, set()).add(method)
        public[path] = operation.get("security") == []
    assert described.keys() == DOCUMENT["paths"].keys()
    for route in api.routes:
        examples = {path: path.replace("{id}", "A" * 30).replace("{name}", "lobby").encode() for path in described}
        (path,) = [path for path, example in examples.items() if route.match(example) is not None]
        assert described.pop(path) == {method.decode() for method in route.methods}
        assert public[path] is route.is_public
    assert not described


def test_the_errors_are_those_of_the_code():
    rows = re.findall(r"^\| (\d{3} `\w+`) \| (.*) \|$", section("Errors"), re.MULTILINE)
    described = [(each["const"], each["description"]) for each in SCHEMAS["ErrorCode"]["oneOf"]]
    assert dict(described) == {row.split("`")[1]: f"{row[:3]}: {cause}." for row, cause in rows}
    assert {(int(text[:3]), code) for code, text in described} == faults()
    assert len(described) == len(faults())


def test_each_error_is_that_of_an_operation_or_of_a_handshake():
    found = {"METHOD_NOT_ALLOWED"}
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            if (status == "default" or int(status) >= 400) and "content" in resolve(response):
                found |= errors_of(response)
    assert found == {code for _, code in faults()} - HANDSHAKE_ONLY - OF_CONSOLE


def test_each_response_names_errors_of_its_status():
    for method, path, operation in operations():
        for status, response in operation["responses"].items():
            if status.isdigit() and int(status) >= 400 and method != "HEAD" and "aws" not in operation["tags"]:
                assert {STATUS[code] for code in errors_of(response)} == {int(status)}, (method, path)


def test_the_response_for_all_other_errors_names_each_with_its_status():
    response = RESPONSES["HttpError"]
    named = re.findall(r"(\d{3}) `([A-Z_]+)`", response["description"])
    assert {code for _, code in named} == errors_of(response)
    assert all(STATUS[code] == int(status) for status, code in named)
    assert statuses(response) == {STATUS[code] for code in errors_of(response)}


def test_a_head_has_the_statuses_of_the_get_and_no_content():
    for path, item in DOCUMENT["paths"].items():
        if "get" in item:
            head, get = item["head"], item["get"]
            assert head["responses"].keys() == get["responses"].keys(), path
            assert [resolve(each)["name"] for each in head.get("parameters", ())] == [
                resolve(each)["name"] for each in get.get("parameters", ())
            ]
            assert not any("content" in resolve(each) for each in head["responses"].values())


def answers_of(method: str, path: str) -> set[str]:
    """Return the error codes in the row of the table of requests."""
    named = path.replace("/{id}", "ws_uri") if path == "/{id}" else path
    (row,) = re.findall(rf"^\| `{method} {re.escape(named)}` \| .*? \| ([^|]*) \|$", section("REST API"), re.MULTILINE)
    if row.startswith("as for"):
        return answers_of(*row.split("`")[1].split(" "))
    return set(re.findall(r"`([A-Z_]+)`", row))


@pytest.mark.parametrize(("method", "path"), [each[:2] for each in operations() if each[0] != "HEAD"])
def test_the_errors_of_an_operation_are_those_in_the_reference(method, path):
    described: set[str] = set()
    for status, response in DOCUMENT["paths"][path][method.lower()]["responses"].items():
        if status.isdigit() and int(status) >= 400:
            described |= errors_of(response)
    common = OF_ANY_REQUEST | OF_PEERS | ({"UNAVAILABLE"} if path != "/readyz" else set())
    # A malformed request is 400 as well, whatever it is for.
    named = answers_of(method, path) | ({"BAD_REQUEST"} if "BAD_REQUEST" in described else set())
    assert described - common == named


def test_where_requests_may_be_for_another_node_they_may_be_misdirected():
    for method, path, operation in operations():
        item = DOCUMENT["paths"][path]
        names = {resolve(each)["name"] for each in item.get("parameters", []) + operation.get("parameters", [])}
        assert ("Ws-Node" in names) == ("421" in operation["responses"]), (method, path)


def test_the_statuses_have_phrases():
    for _, _, operation in operations():
        for status in operation["responses"]:
            assert status == "default" or HTTPStatus(int(status))


def test_each_header_of_the_requests_to_the_backend_is_described():
    webhook = Webhook(make_settings(api_secret="whsec_" + "A" * 32), FakePool(), FakeBreaker(), lambda: 0.0)
    trace = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1")
    subject = Subject("id", "node", b"Bearer secret", "context", trace)
    sent = {}
    for name, event in (
        ("connect", make_opened()),
        ("message", Message(text=True, data=b"")),
        ("disconnect", make_closed()),
    ):
        head = webhook.request(subject, event).partition(b"\r\n\r\n")[0].decode()
        sent[name] = {line.partition(":")[0] for line in head.split("\r\n")[1:]} - {"Authorization", "Content-Type"}
    # A client has a context once its POST is answered.
    sent["connect"].remove("Ws-Context")
    for name, item in DOCUMENT["webhooks"].items():
        ((method, operation),) = item.items()
        assert {resolve(each)["name"] for each in operation["parameters"]} == sent[name]
        assert DOCUMENT["webhooks"][name][method]["security"] == [{"clientAuthorization": []}, {}]
    headers = DOCUMENT["webhooks"]["message"]["put"]["responses"]["2XX"]["headers"]
    assert {name.lower().encode() for name in headers} == ACTION_HEADERS


def test_the_answers_of_the_backend_are_those_in_the_reference():
    for name, title in (("connect", "POST: a client connects"), ("message", "PUT: a client sent a message")):
        (operation,) = DOCUMENT["webhooks"][name].values()
        described = {each for each in operation["responses"] if each.isdigit()}
        rows = re.findall(r"^\| answers (.*?) \|", section(title), re.MULTILINE)
        assert described == set(re.findall(r"\b[45]\d\d\b", " ".join(rows))), name


def test_the_limits_are_those_of_the_code():
    assert SCHEMAS["Id"]["pattern"] == f"^{ID_FORM.pattern}$"
    assert SCHEMAS["GroupName"]["pattern"].endswith(f"{{1,{MAX_GROUP_NAME}}}$")
    assert SCHEMAS["Context"]["maxLength"] == MAX_CONTEXT
    assert SCHEMAS["Names"]["maxItems"] == MAX_NAMED
    assert SCHEMAS["Close"]["properties"]["reason"]["maxLength"] == MAX_REASON
    limit = DOCUMENT["components"]["parameters"]["limit"]["schema"]
    assert (limit["default"], limit["maximum"]) == (listing.PAGE, listing.LONGEST_PAGE)
    assert set(SCHEMAS["ConnectionFields"]["properties"]["state"]["enum"]) == {each.value for each in State}
    assert errors.RETRY_AFTER[1].isdigit()
