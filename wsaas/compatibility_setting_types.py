"""The types of the settings for backends that were written for other services."""

import re
from typing import Final

from wsaas.setting_types import accepting

_SEPARATOR: Final = re.compile(r"[ \t]*(?:,|\r?\n)\s*")
_KEY: Final = re.compile(r"(?P<id>[!-+\-.0-9;-~]+):[!-~]+")


@accepting("id:secret in visible ASCII without commas; several with different ids, separated by commas")
def aws_keys(text: str) -> tuple[bytes, ...]:
    """Parse access keys, separated by commas or line ends. The first colon ends an id, which has no slash either."""
    found = [_KEY.fullmatch(part) for part in _SEPARATOR.split(text)]
    keys = [key for key in found if key is not None]
    if len({key["id"] for key in keys}) < len(found):
        raise ValueError
    return tuple(key[0].encode() for key in keys)
