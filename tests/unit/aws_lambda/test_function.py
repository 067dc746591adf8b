"""A Lambda function: how it is found, what it gets, and what is answered if it fails."""

import json
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from wsaas.aws_lambda.context import LambdaContext
from wsaas.aws_lambda.function import Function, NoHandler, load


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with modules that no other test sees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [each for each in sys.modules if each.startswith("lambda_")]:
        del sys.modules[name]


def write(name, text):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def invoke(handler, event, timeout_s=10.0):
    answer = Function("app.handler", handler, timeout_s).invoke(json.dumps(event).encode())
    return answer.is_error, json.loads(answer.body)


HANDLER = "def handler(event, context):\n    return event\n"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("lambda_app_one.py", "lambda_app_one.handler"),
        ("lambda_src/two.py", "lambda_src/two.handler"),
        ("lambda_src/three.py", "lambda_src.three.handler"),
    ],
)
def test_a_function_is_found_in_the_current_folder(path, name):
    write(path, HANDLER)
    assert load(name)({"a": 1}, LambdaContext("app", "id", 1.0)) == {"a": 1}


def test_a_module_that_does_not_exist_is_named(folder):
    for name in ("lambda_missing.handler", "lambda_missing.app.handler"):
        with pytest.raises(NoHandler) as caught:
            load(name)
        module = name.removesuffix(".handler")
        assert str(caught.value) == f"there is no module {module!r} in {folder}"
    write("lambda_here/__init__.py", "")
    with pytest.raises(NoHandler, match=r"there is no module 'lambda_here\.app' in "):
        load("lambda_here.app.handler")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module_at_all\n", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise ModuleNotFoundError\n", "ModuleNotFoundError"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported_is_shown_with_its_traceback(text, said):
    write("lambda_broken.py", text)
    with pytest.raises(NoHandler) as caught:
        load("lambda_broken.handler")
    lines = str(caught.value).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == [said, "the module 'lambda_broken' cannot be imported: see the traceback above"]


@pytest.mark.parametrize("text", ["", "handler = 7\n"])
def test_a_function_that_does_not_exist_is_named(text):
    write("lambda_empty.py", text)
    with pytest.raises(NoHandler, match=r"^there is no function 'handler' in the module 'lambda_empty'$"):
        load("lambda_empty.handler")


def test_a_function_gets_the_event_and_a_context():
    def handler(event, context):
        names = (
            "aws_request_id",
            "function_name",
            "function_version",
            "invoked_function_arn",
            "log_group_name",
            "log_stream_name",
            "memory_limit_in_mb",
        )
        found = {name: getattr(context, name) for name in names}
        context.log("a line")
        return {"event": event, "left": context.get_remaining_time_in_millis(), **found}

    is_error, answer = invoke(handler, {"body": "grüße"}, 10.0)
    assert not is_error
    assert answer["event"] == {"body": "grüße"}
    assert 5000 < answer["left"] <= 9500
    assert len(answer["aws_request_id"]) == 36
    assert (answer["function_name"], answer["function_version"]) == ("app", "$LATEST")
    assert answer["invoked_function_arn"] == "arn:aws:lambda:us-east-1:123456789012:function:app"
    assert (answer["log_group_name"], answer["memory_limit_in_mb"]) == ("/aws/lambda/app", "128")
    assert answer["log_stream_name"].endswith(f"/[$LATEST]{answer['aws_request_id'].replace('-', '')}")


def test_no_time_is_left_after_the_time_out():
    context = LambdaContext("app", "id", -1.0)
    assert context.get_remaining_time_in_millis() == 0
    assert (context.client_context, context.identity) == (None, None)


def test_an_exception_is_answered_as_by_lambda_and_logged_with_its_traceback(capfd):
    def handler(_event, _context):
        raise ValueError("boom")

    is_error, answer = invoke(handler, {})
    assert is_error
    assert (answer["errorMessage"], answer["errorType"]) == ("boom", "ValueError")
    assert len(answer["requestId"]) == 36
    (frame,) = answer["stackTrace"]
    assert 'raise ValueError("boom")' in frame
    err = capfd.readouterr().err
    assert err.startswith("[ERROR] ValueError: boom\nTraceback (most recent call last):\n")
    assert "_call" not in err


@pytest.mark.parametrize(("fails", "kind"), [(lambda *_: sys.exit(3), "SystemExit"), (lambda _: None, "TypeError")])
def test_a_function_that_exits_or_cannot_be_called_has_failed(fails, kind, capfd):
    is_error, answer = invoke(fails, {})
    assert (is_error, answer["errorType"]) == (True, kind)
    assert f"[ERROR] {kind}: " in capfd.readouterr().err


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, float])
def test_a_value_that_is_no_json_is_an_error(value, capfd):
    is_error, answer = invoke(lambda *_: value, {})
    assert (is_error, answer["errorType"]) == (True, "Runtime.MarshalError")
    assert answer["errorMessage"].startswith("Unable to marshal response: ")
    assert "[ERROR] Runtime.MarshalError: Unable to marshal response: " in capfd.readouterr().err


def test_numbers_of_dynamodb_are_serialized():
    numbers = [Decimal(200), Decimal("1.5"), Decimal("-1E+3"), Decimal("Infinity")]
    is_error, answer = invoke(lambda *_: numbers, {})
    assert not is_error
    assert answer == [200, 1.5, -1000, float("inf")]
    assert [type(each) for each in answer[:3]] == [int, float, int]


def test_a_value_that_is_nested_too_deeply_is_an_error():
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    is_error, answer = invoke(lambda *_: nested, {})
    assert (is_error, answer["errorType"]) == (True, "Runtime.MarshalError")


def test_an_event_that_is_no_json_is_an_error():
    answer = Function("app.handler", lambda event, _: event, 10.0).invoke(b"{")
    assert json.loads(answer.body)["errorType"] == "JSONDecodeError"


def test_a_function_that_takes_too_long_is_not_waited_for(capfd):
    may_end, ended = threading.Event(), threading.Event()

    def handler(_event, _context):
        may_end.wait(20.0)
        ended.set()

    is_error, answer = invoke(handler, {}, 0.02)
    assert (is_error, answer["errorType"]) == (True, "Sandbox.Timedout")
    assert answer["errorMessage"] == f"RequestId: {answer['requestId']} Error: Task timed out after 0.02 seconds"
    assert "[ERROR] Task timed out after 0.02 seconds" in capfd.readouterr().err
    # It goes on.
    may_end.set()
    assert ended.wait(20.0)


def test_invocations_run_at_the_same_time():
    barrier = threading.Barrier(2, timeout=20.0)
    function = Function("app.handler", lambda *_: barrier.wait(), 30.0)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(function.invoke(b"{}"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    assert sorted(answer.body for answer in answers) == [b"0", b"1"]


def test_the_function_has_less_time_than_the_gateway_waits():
    assert Function("a.b", lambda *_: None, 10.0).timeout_s == 9.5
    assert Function("a.b", lambda *_: None, 1.0).timeout_s == 0.9


def test_the_variables_are_those_of_lambda():
    assert Function("src/app.handler", lambda *_: None, 10.0).variables() == {
        "_HANDLER": "src/app.handler",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_NAME": "app",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    }
