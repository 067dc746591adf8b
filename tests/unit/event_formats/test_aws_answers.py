"""The answers of Lambda functions, as Lambda and its emulator pass them on."""

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.event_formats.aws_answers import FunctionAnswer, FunctionError, read_answer, read_reply
from wsaas.events import Message
from wsaas.http.response import Response


def respond(body, status=200, **headers):
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    response = Response(status, named)
    response.body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return response


def read(body, status=200, **headers):
    answer = read_answer(respond(body, status, **headers))
    return answer.status, answer.headers, answer.body, answer.is_base64


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"statusCode": 200}, (200, {}, None, False)),
        ({"statusCode": "403", "body": ""}, (403, {}, "", False)),
        ({"statusCode": 200, "body": "hi", "isBase64Encoded": False}, (200, {}, "hi", False)),
        ({"statusCode": 200, "body": "aGk=", "isBase64Encoded": True}, (200, {}, "aGk=", True)),
        (
            {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "v1", "X-Number": 7, "X-None": None}},
            (200, {"sec-websocket-protocol": "v1", "x-number": "7"}, None, False),
        ),
        (
            {"statusCode": 200, "headers": {"A": "1"}, "multiValueHeaders": {"a": ["2"], "b": ["3", "4"]}},
            (200, {"a": "2", "b": "3, 4"}, None, False),
        ),
        ({"statusCode": 200, "headers": None, "multiValueHeaders": None}, (200, {}, None, False)),
        ({"statusCode": 200, "cookies": [], "errorMessage": "of the application"}, (200, {}, None, False)),
    ],
)
def test_the_answer_of_a_function_is_read(body, expected):
    assert read(body) == expected


def test_an_answer_without_content_is_one_of_no_lambda():
    assert read(b"", 204) == (204, {}, None, False)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", 'answered with nothing, not with a JSON object such as {"statusCode": 200}'),
        (b"null", 'answered with null, not with a JSON object such as {"statusCode": 200}'),
        (b"[]", 'answered with other JSON, not with a JSON object such as {"statusCode": 200}'),
        (b"hello, client", 'answered with other than JSON, not with a JSON object such as {"statusCode": 200}'),
        (
            b"Task timed out after 3.00 seconds",
            "answered with 'Task timed out after 3.00 seconds', not with a JSON object such as {\"statusCode\": 200}",
        ),
        ({}, 'answered without a "statusCode" that is a status of HTTP'),
        ({"statusCode": True}, 'answered without a "statusCode" that is a status of HTTP'),
        ({"statusCode": 99}, 'answered without a "statusCode" that is a status of HTTP'),
        ({"statusCode": 600}, 'answered without a "statusCode" that is a status of HTTP'),
        ({"statusCode": "20000000000"}, 'answered without a "statusCode" that is a status of HTTP'),
        ({"statusCode": "OK"}, 'answered without a "statusCode" that is a status of HTTP'),
        ({"statusCode": 200.0}, 'answered without a "statusCode" that is a status of HTTP'),
        ({"statusCode": 200, "body": {"a": 1}}, 'answered with a "body" that is not a string'),
        ({"statusCode": 200, "headers": []}, 'answered with "headers" that are not an object'),
        ({"statusCode": 200, "multiValueHeaders": "a"}, 'answered with "multiValueHeaders" that are not an object'),
        (
            {"statusCode": 200, "multiValueHeaders": {"a": "b"}},
            'answered with "multiValueHeaders" whose values are not lists',
        ),
        ({"errorMessage": "boom", "errorType": "ValueError", "stackTrace": []}, "failed with ValueError: 'boom'"),
        ({"errorMessage": "", "errorType": "KeyError"}, "failed with KeyError"),
        ({"errorMessage": "", "errorType": "a\nline" * 100}, "failed with an error"),
        ({"errorMessage": "exit status 1"}, "failed with an error: 'exit status 1'"),
        ({"errorMessage": None}, "failed with an error"),
        (
            {"errorMessage": "no access with password=s3cret"},
            "failed with an error: 'no access with password=(hidden)'",
        ),
    ],
)
def test_a_function_that_failed_or_answered_in_another_form_is_an_error(body, why):
    with pytest.raises(FunctionError) as caught:
        read(body)
    assert str(caught.value) == why


def test_the_header_of_lambda_says_that_the_function_failed():
    with pytest.raises(FunctionError, match=r"^failed with an error$"):
        read({"statusCode": 200}, x_amz_function_error=b"Unhandled")


def test_an_answer_that_cannot_be_read_is_an_error():
    with pytest.raises(FunctionError, match="answered in Content-Encoding gzip"):
        read(b"\x1f\x8b", content_encoding=b"gzip")
    response = respond(b"")
    response.is_too_large = True
    with pytest.raises(FunctionError, match="answered with more than fits into a message"):
        read_answer(response)


@pytest.mark.parametrize(
    ("body", "is_base64", "expected"),
    [
        (None, False, None),
        ("", False, None),
        ("grüße", False, Message(True, "grüße".encode())),
        ("aGk=", True, Message(True, b"hi")),
        ("/wA=", True, Message(False, b"\xff\x00")),
    ],
)
def test_the_body_of_an_answer_is_a_message(body, is_base64, expected):
    assert read_reply(FunctionAnswer(200, None, body, is_base64), 100) == expected


def test_a_body_that_cannot_be_sent_is_an_error():
    with pytest.raises(FunctionError, match='a "body" that is not base64'):
        read_reply(FunctionAnswer(200, None, "%", is_base64=True), 100)
    assert read_reply(FunctionAnswer(200, None, "éé"), 4) == Message(True, "éé".encode())
    with pytest.raises(FunctionError, match='a "body" over MAX_MESSAGE_SIZE'):
        read_reply(FunctionAnswer(200, None, "éé"), 3)


@given(st.text(max_size=40), st.booleans())
@examples(200)
def test_any_text_in_an_answer_is_the_message(text, is_ascii):
    body = json.dumps({"statusCode": 200, "body": text}, ensure_ascii=is_ascii).encode()
    reply = read_reply(read_answer(respond(body)), 1000)
    assert reply == (Message(True, text.encode()) if text else None)


@given(st.binary(min_size=1, max_size=40))
@examples(200)
def test_any_bytes_in_an_answer_are_the_message(data):
    body = {"statusCode": 200, "body": b64encode(data).decode(), "isBase64Encoded": True}
    reply = read_reply(read_answer(respond(body)), 1000)
    assert reply is not None
    assert reply.data == data


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: (
            st.lists(each)
            | st.dictionaries(
                st.sampled_from(
                    ["statusCode", "headers", "body", "multiValueHeaders", "isBase64Encoded", "errorMessage"]
                ),
                each,
            )
        ),
    )
)
@examples(300)
def test_any_answer_is_read_or_is_an_error(body):
    try:
        result = read_answer(respond(body)).status in range(100, 600)
    except FunctionError as error:
        result = str(error).startswith(("answered ", "failed "))
    assert result
