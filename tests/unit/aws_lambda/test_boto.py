"""The endpoint of boto3's clients in a function that builds it from an event."""

import sys
from types import ModuleType

import pytest

from wsaas.aws_lambda.boto import lead_to_http

GATEWAY = "http://localhost:8080/local"


class Session:
    """Stands for that of botocore."""

    def create_client(self, service, endpoint_url=None, **named):
        return service, endpoint_url, named


@pytest.fixture
def session(monkeypatch):
    """A session of botocore, whether that is installed or not."""
    module = ModuleType("botocore.session")
    monkeypatch.setitem(sys.modules, "botocore.session", module)
    monkeypatch.setattr(module, "Session", type("Session", (Session,), {}), raising=False)
    monkeypatch.setattr("wsaas.aws_lambda.boto.find_spec", lambda _: True)
    return module.Session


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://localhost:8080/local", "http://localhost:8080/local"),
        ("https://localhost:8080", "http://localhost:8080"),
        ("http://localhost:8080/local", "http://localhost:8080/local"),
        ("https://localhost:8081/local", "https://localhost:8081/local"),
        ("https://dynamodb.eu-west-1.amazonaws.com", "https://dynamodb.eu-west-1.amazonaws.com"),
        (None, None),
    ],
)
def test_a_client_of_a_gateway_without_tls_uses_http(session, given, used):
    lead_to_http(GATEWAY)
    made = session().create_client("apigatewaymanagementapi", endpoint_url=given, region_name="x")
    assert made == ("apigatewaymanagementapi", used, {"region_name": "x"})


def test_a_client_without_an_endpoint_is_left_alone(session):
    lead_to_http(GATEWAY)
    assert session().create_client("s3") == ("s3", None, {})


@pytest.mark.parametrize("endpoint", ["https://localhost:8080/local", ""])
def test_nothing_changes_with_tls_or_without_a_gateway(session, endpoint):
    lead_to_http(endpoint)
    assert session.create_client is Session.create_client


def test_nothing_changes_without_boto3(session, monkeypatch):
    monkeypatch.setattr("wsaas.aws_lambda.boto.find_spec", lambda _: None)
    lead_to_http(GATEWAY)
    assert session.create_client is Session.create_client
