"""A Lambda function: how it is found, how it is invoked, and what is answered if it fails."""

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from typing import Any, Final, NamedTuple
from uuid import uuid4

from wsaas.aws_lambda.context import MEMORY_MB, VERSION, LambdaContext
from wsaas.aws_lambda.event_loops import EventLoops

Handler = Callable[[Any, LambdaContext], Any]

MARGIN_S: Final = 0.5
MARGIN: Final = 0.1
"""How much less than the gateway waits an invocation may take: seconds, or this part if that is less."""


class NoHandler(Exception):
    """There is no such function, or its module cannot be imported. The text says why."""


class Answer(NamedTuple):
    """The answer to an invocation. `is_error`: the function failed."""

    body: bytes
    is_error: bool = False


def load(name: str) -> Handler:
    """Import the function `name`, such as `app.handler`, from the current folder. Raises `NoHandler`."""
    module_name, _, function = name.replace("/", ".").rpartition(".")
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - the search path has strings
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            # A module that this one imports is missing.
            raise NoHandler(_import_error(module_name)) from error
        raise NoHandler(f"there is no module {module_name!r} in {os.getcwd()}") from None  # noqa: PTH109 - as above
    except Exception as error:
        raise NoHandler(_import_error(module_name)) from error
    handler: Handler = getattr(module, function, None)  # type: ignore[assignment]  # nobody declares them
    if not callable(handler):
        raise NoHandler(f"there is no function {function!r} in the module {module_name!r}")
    return handler


def _import_error(module: str) -> str:
    """Return the traceback of the exception that is being handled, and what it prevented."""
    return f"{traceback.format_exc()}the module {module!r} cannot be imported: see the traceback above"


class Function:
    """Invokes a handler. Several invocations may run at a time, each in a thread of its own."""

    def __init__(self, name: str, handler: Handler, timeout_s: float, loops: EventLoops | None = None) -> None:
        """Invoke `handler`. `timeout_s`: seconds after which the gateway does not wait any more.

        `loops`: has the event loops of the threads, if it is the policy of asyncio.
        """
        self.name = name.replace("/", ".").rpartition(".")[0].rpartition(".")[2]
        self.timeout_s = max(timeout_s - MARGIN_S, timeout_s * (1 - MARGIN))
        self._handler = handler
        self._loops = loops
        self._spelled = name

    def variables(self) -> dict[str, str]:
        """Return the variables that Lambda sets for the function."""
        return {
            "_HANDLER": self._spelled,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": VERSION,
        }

    def invoke(self, data: bytes) -> Answer:
        """Call the handler with the event in `data`, and return what it returns, or why it failed.

        After the time-out its thread goes on, but nobody learns what it returns.
        """
        context = LambdaContext(self.name, str(uuid4()), self.timeout_s)
        answers: list[Answer] = []
        # In a thread of its own, as nothing can end it.
        thread = threading.Thread(target=lambda: answers.append(self._call(data, context)), daemon=True)
        thread.start()
        thread.join(self.timeout_s)
        if answers:
            return answers[0]
        text = f"Task timed out after {self.timeout_s:.2f} seconds"
        print(f"[ERROR] {text}", file=sys.stderr, flush=True)
        return _failure(context, "Sandbox.Timedout", f"RequestId: {context.aws_request_id} Error: {text}")

    def _call(self, data: bytes, context: LambdaContext) -> Answer:
        try:
            result = self._handler(json.loads(data), context)
        except BaseException as error:  # noqa: BLE001 - whatever the function raises, it is invoked again
            # Without the frame of this function.
            frames = error.__traceback__ and error.__traceback__.tb_next
            lines = "".join(traceback.format_exception(type(error), error, frames))
            print(f"[ERROR] {type(error).__name__}: {error}\n{lines}", file=sys.stderr, flush=True)
            return _failure(context, type(error).__name__, str(error), traceback.format_tb(frames))
        finally:
            if self._loops is not None:
                self._loops.release()
        try:
            return Answer(json.dumps(result, default=_number).encode())
        except (TypeError, ValueError, RecursionError) as error:
            text = f"Unable to marshal response: {error}"
            print(f"[ERROR] Runtime.MarshalError: {text}", file=sys.stderr, flush=True)
            return _failure(context, "Runtime.MarshalError", text)


def _number(value: object) -> float:
    """Return a number of DynamoDB, as Lambda serializes it. Raises `TypeError` for any other value."""
    if not isinstance(value, Decimal):
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)


def _failure(context: LambdaContext, kind: str, text: str, frames: list[str] | None = None) -> Answer:
    """Return what Lambda answers if a function fails."""
    said = {"errorMessage": text, "errorType": kind, "requestId": context.aws_request_id, "stackTrace": frames or []}
    return Answer(json.dumps(said).encode(), is_error=True)
