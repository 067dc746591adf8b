"""The command `wsaas lambda`: runs a gateway and a Lambda function in Python, as `wsaas dev` runs a backend."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wsaas import webhooks
from wsaas.cli import dev
from wsaas.cli.command_options import ClientOptions, DevOptions, LambdaOptions
from wsaas.settings import Settings
from wsaas.start_report import refuse

PATH: Final = "/2015-03-31/functions/function/invocations"
"""Where the runtime interface emulator of AWS takes events."""

ENDPOINT: Final = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"
"""The variable from which the SDKs of AWS take the endpoint of the Management API."""

REGION: Final = "us-east-1"
CREDENTIALS: Final = "local"
"""SDKs send nothing without any credentials."""

_CREDENTIALS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_PROFILE",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
"""Variables that lead to the credentials of the user."""

_FILES: Final = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
"""Variables with the paths of files that may hold credentials and a region, and their defaults."""


def run(flags: Mapping[str, str | None], environment: Mapping[str, str], given: LambdaOptions) -> int:
    """Run both until one of them ends; return the exit status."""
    if (flags.get("event_format") or "aws").lower() != "aws":
        return refuse("wsaas lambda sends the events of AWS: it cannot be used with another EVENT_FORMAT")
    profile = dev.Profile("lambda", "handler", PATH, variables, rows, needs_port=True)
    command = (sys.executable, "-m", "wsaas.aws_lambda", given.handler)
    options = DevOptions(ClientOptions("/", ()), command, has_check=False)
    return dev.run({**flags, "event_format": "aws"}, environment, options, profile)


def rows(chosen: Settings) -> list[tuple[str, str]]:
    """Return the rows of the greeting that only this command has."""
    return [("boto3", endpoint(chosen))]


def endpoint(chosen: Settings) -> str:
    """Return the endpoint of the Management API."""
    return webhooks.aws_endpoint(chosen.ws_hostname)


def variables(chosen: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the function: what SDKs need, and what it can learn of its invocations."""
    found = {
        ENDPOINT: endpoint(chosen),
        "WSAAS_LAMBDA_HOST": chosen.api_uri.host,
        "WSAAS_LAMBDA_TIMEOUT_S": str(chosen.api_timeout),
    }
    if chosen.control_aws_keys and not environment.get("AWS_ACCESS_KEY_ID"):
        name, _, secret = chosen.control_aws_keys[0].decode().partition(":")
        found |= {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": secret}
    if not _has_files(environment):
        if not (chosen.control_aws_keys or any(map(environment.get, _CREDENTIALS))):
            found |= {"AWS_ACCESS_KEY_ID": CREDENTIALS, "AWS_SECRET_ACCESS_KEY": CREDENTIALS}
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or REGION
        found |= {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    return found


def _has_files(environment: Mapping[str, str]) -> bool:
    """Return whether the user has files with credentials or a region, which variables would hide."""
    return any(Path(environment.get(name) or usual).expanduser().exists() for name, usual in _FILES.items())
