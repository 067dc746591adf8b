"""The declaration of the settings for backends that were written for other services, as in `setting_groups`."""

from dataclasses import dataclass
from pathlib import Path

from wsaas import compatibility_setting_types, message_setting_types, setting_types
from wsaas.setting_groups import setting


@dataclass(frozen=True, kw_only=True)
class CompatibilitySettings:
    """The format of requests to the backend, and the credentials of an SDK of another service."""

    event_format: str = setting(
        setting_types.one_of("native", "aws", "azure"),
        "native",
        "Format of the requests to the backend. `aws`: [events](aws.md#events) as API Gateway sends them to Lambda "
        "functions. `azure`: those of [Azure Web PubSub](azure.md), with its REST API",
    )
    aws_route_selection: tuple[str, ...] = setting(
        message_setting_types.route_selection,
        "$request.body.action",
        "With `EVENT_FORMAT=aws`: which member of a JSON message is its `routeKey`, as in the route selection "
        "expression of an API",
    )
    aws_route_responses: bool = setting(
        setting_types.switch,
        "off",
        "With `EVENT_FORMAT=aws`: `on` sends the `body` of the answer to a message to the client, as API Gateway does "
        "for a route with a route response",
    )
    control_aws_keys: tuple[bytes, ...] = setting(
        compatibility_setting_types.aws_keys,
        None,
        "Access keys of AWS, `id:secret`: requests for [`@connections`](aws.md) need a signature by one of them, or a "
        "`CONTROL_TOKEN`. Several may be given, separated by commas. All other requests need a `CONTROL_TOKEN` or a "
        "client certificate then",
        unset=(),
        secret=True,
    )
    control_aws_keys_file: Path | None = setting(
        setting_types.any_path,
        None,
        "File with the value of `CONTROL_AWS_KEYS`, one key per line. Reloaded on SIGHUP",
        unset=None,
    )
    azure_hub: str = setting(
        compatibility_setting_types.hub,
        "hub",
        "With `EVENT_FORMAT=azure`: the hub of clients whose URL names none, as `/client/hubs/chat` does",
    )
    control_azure_keys: tuple[bytes, ...] = setting(
        compatibility_setting_types.azure_keys,
        None,
        "Access keys of Azure Web PubSub, or connection strings with them. Clients and requests below `/api/hubs` need "
        "a [token](azure.md#access-keys) that is signed with one of them. Several may be given, separated by commas. "
        "All other requests need a `CONTROL_TOKEN` or a client certificate then",
        unset=(),
        secret=True,
    )
    control_azure_keys_file: Path | None = setting(
        setting_types.any_path,
        None,
        "File with the value of `CONTROL_AZURE_KEYS`, one key per line. Reloaded on SIGHUP",
        unset=None,
    )
