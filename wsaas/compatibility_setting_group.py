"""The declaration of the settings for backends that were written for other services, as in `setting_groups`."""

from dataclasses import dataclass

from wsaas import setting_types
from wsaas.setting_groups import setting


@dataclass(frozen=True, kw_only=True)
class CompatibilitySettings:
    """The format of requests to the backend."""

    event_format: str = setting(
        setting_types.one_of("native"),
        "native",
        "Format of the requests to the backend",
    )
