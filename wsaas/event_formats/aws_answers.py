"""The answers of Lambda functions: those of proxy integrations, and errors.

`POST /2015-03-31/functions/{name}/invocations` answers 200 also if the function failed. The real Lambda says so in the
header `X-Amz-Function-Error`. The runtime interface emulator in the images of AWS does not: what it answers then has an
`errorMessage`, is plain text after a time-out, and is empty if the process of the function has ended.
"""

import re
from base64 import b64decode
from typing import Any, Final

import orjson

from wsaas.delivery.failure_report import quote
from wsaas.events import Message
from wsaas.http.headers import content_coding
from wsaas.http.response import Response
from wsaas.websocket.frames import valid_text

NO_CONTENT: Final = 204
_STATUSES: Final = range(100, 600)
_EXCERPT: Final = 100
_EXPECTED: Final = 'a JSON object such as {"statusCode": 200}'
_KIND: Final = re.compile(r"[A-Za-z_][\w.:]{0,79}")
_TIMED_OUT: Final = b"Task timed out"
_FUNCTION_ERROR: Final = b"x-amz-function-error"


class FunctionError(Exception):
    """The function failed, or its answer cannot be used. The text says why, as a phrase after "the function"."""


class FunctionAnswer:
    """The answer of a function that ran. `headers`: by their names in lower case; `body`: None if there is none."""

    __slots__ = ("body", "headers", "is_base64", "status")

    def __init__(
        self, status: int, headers: dict[str, str] | None = None, body: str | None = None, is_base64: bool = False
    ) -> None:
        """Keep the values."""
        self.body = body
        self.headers = {} if headers is None else headers
        self.is_base64 = is_base64
        self.status = status


def read_answer(response: Response) -> FunctionAnswer:
    """Return the answer in a 2xx response. Raises `FunctionError`."""
    if response.is_too_large:
        raise FunctionError("answered with more than fits into a message")
    if coding := content_coding(response.headers):
        raise FunctionError(f"answered in Content-Encoding {coding}")
    if response.status == NO_CONTENT:
        return FunctionAnswer(NO_CONTENT)
    try:
        answer: Any = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        raise FunctionError(f"answered with {_described(response.body)}, not with {_EXPECTED}") from None
    if not isinstance(answer, dict):
        raise FunctionError(f"answered with {'null' if answer is None else 'other JSON'}, not with {_EXPECTED}")
    status = _status(answer.get("statusCode"))
    if _FUNCTION_ERROR in response.headers or (status is None and "errorMessage" in answer):
        kind, said = str(answer.get("errorType")), quote(str(answer.get("errorMessage") or ""))
        shown = kind if answer.get("errorType") and _KIND.fullmatch(kind) else "an error"
        raise FunctionError(f"failed with {shown}{said and ': '}{said}")
    if status is None:
        raise FunctionError('answered without a "statusCode" that is a status of HTTP')
    body = answer.get("body")
    if not isinstance(body, str | None):
        raise FunctionError('answered with a "body" that is not a string')
    return FunctionAnswer(status, _headers(answer), body, answer.get("isBase64Encoded") is True)


def read_reply(answer: FunctionAnswer, max_size: int) -> Message | None:
    """Return the body of `answer` as a message for the client, None if it is empty. Raises `FunctionError`."""
    if not answer.body:
        return None
    if answer.is_base64:
        try:
            data = b64decode(answer.body, validate=True)
        except ValueError:
            raise FunctionError('answered with a "body" that is not base64') from None
    else:
        data = answer.body.encode()
    if len(data) > max_size:
        raise FunctionError('answered with a "body" over MAX_MESSAGE_SIZE')
    # API Gateway sends text frames only. What is no text can be sent as binary.
    return Message(not answer.is_base64 or valid_text(data), data)


def _described(body: bytes) -> str:
    """Return what a body that is no JSON is, for the log. It is not quoted: it may be for the client."""
    if not body:
        return "nothing"
    return quote(body[:_EXCERPT].decode("utf-8", "replace")) if body.startswith(_TIMED_OUT) else "other than JSON"


def _status(value: object) -> int | None:
    """Return a status that is a number, or a text with one; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:4])
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _STATUSES else None


def _headers(answer: dict[str, Any]) -> dict[str, str]:
    """Return `headers` and `multiValueHeaders`. Raises `FunctionError`."""
    found: dict[str, str] = {}
    for name, several in _members(answer, "multiValueHeaders"):
        if not isinstance(several, list):
            raise FunctionError('answered with "multiValueHeaders" whose values are not lists')
        found[name.lower()] = ", ".join(map(str, several))
    for name, value in _members(answer, "headers"):
        if value is not None:
            found.setdefault(name.lower(), str(value))
    return found


def _members(answer: dict[str, Any], name: str) -> list[tuple[str, Any]]:
    found = answer.get(name)
    if not isinstance(found, dict | None):
        raise FunctionError(f'answered with "{name}" that are not an object')
    return [*found.items()] if found else []
