"""Errors as AWS's API Gateway Management API sends them, so that its SDKs raise the exceptions of their models."""

from typing import Final

from wsaas.errors import Forbidden, HTTPError, Unauthorized

TYPE_HEADER: Final = "x-amzn-ErrorType"
"""The header with the name of the exception. An SDK does not know it by the status."""

_SERVER_ERROR: Final = 500
_NAMES: Final = {
    403: "ForbiddenException",
    410: "GoneException",
    413: "PayloadTooLargeException",
    429: "LimitExceededException",
    503: "ServiceUnavailableException",
    504: "GatewayTimeoutException",
}


def aws_error(status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> HTTPError:
    """Return an error of the REST API in the form of AWS: the `status`, `message` and `headers` of its usual form.

    AWS has no 401: a request without valid credentials is forbidden.
    """
    if status == Unauthorized.status:
        status = Forbidden.status
    other = "InternalServerErrorException" if status >= _SERVER_ERROR else "BadRequestException"
    kept = [(name, value) for name, value in headers if name.lower() != "www-authenticate"]
    error = HTTPError(message, (TYPE_HEADER, _NAMES.get(status, other)), *kept)
    error.status = status
    error.content = {"message": message}
    return error


def as_aws(error: HTTPError) -> HTTPError:
    """Return `error` in the form of AWS."""
    return aws_error(error.status, error.message, error.headers)
