"""Requests as AWS's own signer for Python signs them."""

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY = f"{KEY_ID}:{SECRET}"
REGION = "eu-west-1"


def sign(
    method: str,
    target: str,
    body: bytes = b"",
    *,
    host: str = "localhost",
    key: str = KEY,
    token: str | None = None,
    service: str = "execute-api",
    headers: dict[str, str] | None = None,
) -> dict[str, str]:
    """Return `headers` and those of a signature for a request that is sent now. `token`: of a session."""
    key_id, _, secret = key.partition(":")
    request = AWSRequest(method, f"http://{host}{target}", headers=headers, data=body)
    SigV4Auth(Credentials(key_id, secret, token), service, REGION).add_auth(request)
    return dict(request.headers.items())


def signed_lines(method: str, target: str, body: bytes = b"", **options: str) -> list[str]:
    """Return the headers of `sign` as lines."""
    return [f"{name}: {value}" for name, value in sign(method, target, body, **options).items()]  # type: ignore[arg-type]  # all options that a caller gives are texts
