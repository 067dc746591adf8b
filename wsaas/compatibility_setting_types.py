"""The types of the settings for backends that were written for other services."""

import re
from typing import Final

from wsaas.hubs import HUB_FORM, is_hub
from wsaas.setting_types import accepting

_SEPARATOR: Final = re.compile(r"[ \t]*(?:,|\r?\n)\s*")
_VISIBLE: Final = re.compile(r"[!-~]+")
_CONNECTION_STRING: Final = re.compile(r"(?i)(?:.*;)?accesskey=([^;]+)(?:;.*)?")
_KEY: Final = re.compile(r"(?P<id>[!-+\-.0-9;-~]+):[!-~]+")


@accepting("id:secret in visible ASCII without commas; several with different ids, separated by commas")
def aws_keys(text: str) -> tuple[bytes, ...]:
    """Parse access keys, separated by commas or line ends. The first colon ends an id, which has no slash either."""
    found = [_KEY.fullmatch(part) for part in _SEPARATOR.split(text)]
    keys = [key for key in found if key is not None]
    if len({key["id"] for key in keys}) < len(found):
        raise ValueError
    return tuple(key[0].encode() for key in keys)


@accepting("access keys or connection strings of visible ASCII characters without commas, separated by commas")
def azure_keys(text: str) -> tuple[bytes, ...]:
    """Parse access keys, separated by commas or line ends. Each may be in a connection string."""
    found = _SEPARATOR.split(text)
    if not all(map(_VISIBLE.fullmatch, found)):
        raise ValueError
    # A key is base64, so it has no semicolon.
    return tuple(_access_key(part).encode() for part in found)


def _access_key(text: str) -> str:
    named = _CONNECTION_STRING.fullmatch(text)
    if named is not None:
        return named[1]
    if ";" in text:
        # A connection string without a key.
        raise ValueError
    return text


@accepting(HUB_FORM)
def hub(text: str) -> str:
    """Parse the name of a hub."""
    if not is_hub(text):
        raise ValueError
    return text
