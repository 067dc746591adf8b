import pytest

from tests.support.backend_requests import ID
from tests.support.documentation import faults
from wsaas.backend import errors
from wsaas.backend.calls import Calls
from wsaas.backend.errors import GatewayError

CALLS = Calls("localhost:8080", None, by_id=False)
READ, PUSH, HEAD = CALLS.info(ID), CALLS.push(ID, "hi"), CALLS.exists(ID)


def error(status, body=b"", call=PUSH, **headers):
    """Return the error in an answer."""
    with pytest.raises(GatewayError) as raised:
        call.result(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
    return raised.value


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "BAD_REQUEST", errors.BadRequest),
        (400, "BAD_TEXT", errors.BadRequest),
        (400, "BAD_CLOSE", errors.BadRequest),
        (401, "UNAUTHORIZED", errors.Unauthorized),
        (403, "FORBIDDEN", errors.Forbidden),
        (404, "NOT_FOUND", errors.NotFound),
        (409, "TOO_MANY_GROUPS", errors.TooManyGroups),
        (410, "GONE", errors.Gone),
        (413, "TOO_LARGE", errors.TooLarge),
        (414, "URI_TOO_LONG", errors.TooLarge),
        (431, "HEAD_TOO_LARGE", errors.TooLarge),
        (429, "SLOW_CLIENT", errors.SlowClient),
        (429, "TOO_MANY_REQUESTS", errors.TooManyRequests),
        (503, "UNAVAILABLE", errors.Unavailable),
        (503, "SERVICE_UNAVAILABLE", errors.Unknown),
        (503, "", errors.Unknown),
        (504, "UNKNOWN", errors.Unknown),
        (504, "GATEWAY_TIMEOUT", errors.Unknown),
        (502, "", errors.Unknown),
        (500, "", errors.Unknown),
        (501, "NOT_IMPLEMENTED", GatewayError),
        (421, "MISDIRECTED", GatewayError),
        (301, "", GatewayError),
    ],
)
def test_an_error_has_the_class_of_its_answer(status, code, kind):
    found = error(status, b'{"code": "%b", "message": "Why."}' % code.encode())
    assert type(found) is kind
    assert (str(found), found.status, found.code, found.retry_after) == ("Why.", status, code, None)


def test_every_error_of_the_gateway_that_may_be_carried_out_is_unknown():
    for status, code in faults():
        found = error(status, b'{"code": "%b", "message": "Why."}' % code.encode())
        assert isinstance(found, errors.Unknown) == (status in {502, 504}), code


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code": "OVERLOADED"}'])
def test_a_503_of_a_proxy_does_not_say_that_nothing_was_carried_out(body):
    assert type(error(503, body)) is errors.Unknown
    for call in (READ, HEAD):
        assert type(error(503, body, call)) is errors.Unavailable


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, errors.Unauthorized, "the token is missing, or is not the CONTROL_TOKEN of the gateway"),
        (403, errors.Forbidden, "without a token, the gateway serves only requests to its own host names"),
        (404, errors.NotFound, "there is no such path; the base_url may be wrong"),
        (410, errors.Gone, "the client has disconnected"),
        (429, errors.TooManyRequests, "an answer to HEAD says no more"),
        (504, errors.Unknown, "an answer to HEAD says no more"),
    ],
)
def test_an_answer_without_a_body_is_explained_all_the_same(status, kind, said):
    found = error(status, call=HEAD)
    assert (type(found), str(found)) == (kind, f"the answer is {status}: {said}")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b"null"])
def test_an_error_of_another_server_has_no_code(body):
    found = error(410, body)
    assert (type(found), str(found)) == (errors.Gone, "the answer is 410, not from a gateway")
    assert found.code == ""


@pytest.mark.parametrize(("value", "expected"), [("7", 7.0), ("soon", None), ("-1", None), ("", None), ("²", None)])
def test_an_error_says_when_to_try_again(value, expected):
    assert error(429, b'{"code": "SLOW_CLIENT"}', retry_after=value).retry_after == expected


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"id": 1}', b'{"code": "OK"}'])
def test_a_success_of_another_server_is_an_error(body):
    assert str(error(200, body, READ)) == "the answer is 200, but not that of a gateway"
