import pytest

from wsaas import errors

ERRORS = [
    (errors.BadRequest, 400, "BAD_REQUEST"),
    (errors.BadText, 400, "BAD_TEXT"),
    (errors.BadClose, 400, "BAD_CLOSE"),
    (errors.Unauthorized, 401, "UNAUTHORIZED"),
    (errors.Forbidden, 403, "FORBIDDEN"),
    (errors.NotFound, 404, "NOT_FOUND"),
    (errors.MethodNotAllowed, 405, "METHOD_NOT_ALLOWED"),
    (errors.RequestTimeout, 408, "REQUEST_TIMEOUT"),
    (errors.TooManyGroups, 409, "TOO_MANY_GROUPS"),
    (errors.Gone, 410, "GONE"),
    (errors.TooLarge, 413, "TOO_LARGE"),
    (errors.UriTooLong, 414, "URI_TOO_LONG"),
    (errors.UnsupportedMediaType, 415, "UNSUPPORTED_MEDIA_TYPE"),
    (errors.ExpectationFailed, 417, "EXPECTATION_FAILED"),
    (errors.Misdirected, 421, "MISDIRECTED"),
    (errors.UpgradeRequired, 426, "UPGRADE_REQUIRED"),
    (errors.SlowClient, 429, "SLOW_CLIENT"),
    (errors.TooManyRequests, 429, "TOO_MANY_REQUESTS"),
    (errors.TooManyViewers, 429, "TOO_MANY_VIEWERS"),
    (errors.HeadTooLarge, 431, "HEAD_TOO_LARGE"),
    (errors.Unsupported, 501, "NOT_IMPLEMENTED"),
    (errors.BadGateway, 502, "BAD_GATEWAY"),
    (errors.Unavailable, 503, "UNAVAILABLE"),
    (errors.GatewayTimeout, 504, "GATEWAY_TIMEOUT"),
    (errors.Unknown, 504, "UNKNOWN"),
    (errors.VersionNotSupported, 505, "VERSION_NOT_SUPPORTED"),
]


@pytest.mark.parametrize(("kind", "status", "code"), ERRORS)
def test_each_error_has_its_status_and_its_code(kind, status, code):
    fault = kind("Why.", ("Retry-After", "1"), ("Allow", "GET"))
    assert (fault.status, fault.code) == (status, code)
    assert fault.message == str(fault) == "Why."
    assert fault.headers == (("Retry-After", "1"), ("Allow", "GET"))
    assert kind("Why.").headers == ()


def test_each_error_is_tested_here():
    assert {kind for kind, _, _ in ERRORS} == set(errors.HTTPError.__subclasses__())


def test_no_two_errors_have_the_same_code():
    assert len({kind.code for kind in errors.HTTPError.__subclasses__()}) == len(ERRORS)


def test_an_error_can_be_raised():
    with pytest.raises(errors.HTTPError, match="It ended"):
        raise errors.Gone("It ended.")


@pytest.mark.parametrize("kind", [errors.SettingError, errors.Malformed, errors.LimitExceeded, errors.UnknownCoding])
def test_only_errors_with_a_status_are_http_errors(kind):
    assert not issubclass(kind, errors.HTTPError)
