"""The context that a Lambda function gets."""

import time
from typing import Any, Final

MEMORY_MB: Final = 128
VERSION: Final = "$LATEST"
ACCOUNT: Final = "123456789012"
REGION: Final = "us-east-1"


class LambdaContext:
    """What a function can learn about its invocation. The names are those of AWS."""

    def __init__(self, function: str, request_id: str, timeout_s: float) -> None:
        """Describe an invocation of `function` that starts now, and may take `timeout_s` seconds."""
        self.aws_request_id = request_id
        self.client_context: Any = None
        self.function_name = function
        self.function_version = VERSION
        self.identity: Any = None
        self.invoked_function_arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
        self.log_group_name = f"/aws/lambda/{function}"
        self.log_stream_name = f"{time.strftime('%Y/%m/%d')}/[{VERSION}]{request_id.replace('-', '')}"
        self.memory_limit_in_mb = str(MEMORY_MB)
        self._deadline = time.monotonic() + timeout_s

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the invocation may still take."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))

    def log(self, message: object) -> None:
        """Write `message` to the log."""
        print(message, flush=True)
