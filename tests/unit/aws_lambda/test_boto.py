"""The endpoint of boto3's clients in a function that builds it from an event."""

import sys
from types import ModuleType

import pytest

from wsaas.aws_lambda.boto import lead_to_gateway
from wsaas.event_formats.aws_events import API_ID

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
        (f"https://{API_ID}.execute-api.eu-west-1.amazonaws.com/local", GATEWAY),
        (f"https://{API_ID}.execute-api.cn-north-1.amazonaws.com.cn/local", GATEWAY),
        (
            "https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/v1",
            "https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/v1",
        ),
        ("https://dynamodb.eu-west-1.amazonaws.com", "https://dynamodb.eu-west-1.amazonaws.com"),
        (None, None),
    ],
)
def test_a_client_with_an_endpoint_made_of_an_event_reaches_the_gateway(session, given, used):
    lead_to_gateway(GATEWAY)
    made = session().create_client("apigatewaymanagementapi", endpoint_url=given, region_name="x")
    assert made == ("apigatewaymanagementapi", used, {"region_name": "x"})


def test_a_client_without_an_endpoint_is_left_alone(session):
    lead_to_gateway(GATEWAY)
    assert session().create_client("s3") == ("s3", None, {})


def test_a_gateway_with_tls_is_reached_by_tls(session):
    lead_to_gateway("https://localhost:8080/local")
    made = [
        session().create_client("apigatewaymanagementapi", endpoint_url=each)[1]
        for each in (f"https://{API_ID}.execute-api.us-east-1.amazonaws.com/local", "https://localhost:8080/local")
    ]
    assert made == ["https://localhost:8080/local"] * 2


def test_nothing_changes_without_a_gateway(session):
    lead_to_gateway("")
    assert session.create_client is Session.create_client


def test_nothing_changes_without_boto3(session, monkeypatch):
    monkeypatch.setattr("wsaas.aws_lambda.boto.find_spec", lambda _: None)
    lead_to_gateway(GATEWAY)
    assert session.create_client is Session.create_client
