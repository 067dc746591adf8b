"""The sockets that systemd has opened for the service (sd_listen_fds(3)).

The name of a socket (`FileDescriptorName=`) is the setting that it stands for, in lower case. Several sockets may have
the same name, such as one for IPv4 and one for IPv6. Without names, the first socket is for clients and the second one
for REST requests.

The address of a socket becomes the value of its setting, so that everything else in the gateway knows where it
listens, no matter which process opened the socket.
"""

import os
import re
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wsaas.errors import SettingError
from wsaas.setting_types import Address
from wsaas.systemd.variables import LISTEN_FDNAMES, LISTEN_FDS, LISTEN_PID, is_for_this_process

FIRST: Final = 3
"""The descriptor of the first socket (SD_LISTEN_FDS_START)."""

NAMES: Final = ("listen", "control_listen")
"""The settings that a socket can stand for."""

MAX_SOCKETS: Final = 64
"""More sockets than this are a mistake."""

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_KNOWN: Final = " or ".join(NAMES)


@dataclass(frozen=True, slots=True)
class Activation:
    """Sockets that listen already. `flags`: the settings that they stand for. `sockets`: descriptors by address."""

    flags: Mapping[str, str] = field(default_factory=dict)
    sockets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def activation(
    variables: Mapping[str, str], flags: Mapping[str, str | None], environment: Mapping[str, str]
) -> Activation:
    """Return the sockets that `variables` are about.

    Raises `SettingError` for sockets that cannot be used, or whose setting is in `flags` or `environment`, too.
    """
    names = _names(variables)
    given: dict[str, list[tuple[Address, int]]] = {}
    for descriptor, name in enumerate(names, FIRST):
        given.setdefault(name, []).append((_address(descriptor, name), descriptor))
    for name in given:
        if flags.get(name) is not None or environment.get(name.upper()):
            raise SettingError(
                f"{name.upper()} is set, and systemd passes a socket for it, too: remove {name.upper()}, or the socket "
                "unit"
            )
    found, sockets = {}, {}
    for name, pairs in given.items():
        # The one that most can reach is what warnings have to be about.
        address = min(pairs, key=lambda pair: pair[0].is_loopback)[0]
        text = found[name] = str(address)
        if text in sockets:
            raise SettingError(f"systemd passes two sockets with the address {text}, under different names")
        sockets[text] = tuple(descriptor for _, descriptor in pairs)
    return Activation(found, sockets)


def _names(variables: Mapping[str, str]) -> list[str]:
    """Return the name of each socket."""
    text, pid = variables.get(LISTEN_FDS), variables.get(LISTEN_PID)
    # Unlike WATCHDOG_PID, LISTEN_PID has to be there: descriptor 3 may be anything if the rest is inherited.
    if text is None or pid is None or not is_for_this_process(pid):
        return []
    if not re.fullmatch("[0-9]{1,3}", text) or int(text) > MAX_SOCKETS:
        raise SettingError(f"{LISTEN_FDS}={text!r}: expected a number of sockets up to {MAX_SOCKETS}")
    count, given = int(text), variables.get(LISTEN_FDNAMES)
    if given is None:
        if count > len(NAMES):
            raise SettingError(
                f"{LISTEN_FDS}={text!r}: more than {len(NAMES)} sockets need names: set FileDescriptorName= to "
                f"{_KNOWN} in each socket unit"
            )
        return list(NAMES[:count])
    names = given.split(":") if count else []
    if len(names) != count:
        raise SettingError(f"{LISTEN_FDNAMES}={given!r}: expected a name for each of {count} sockets")
    for name in names:
        if name not in NAMES:
            raise SettingError(
                f"{LISTEN_FDNAMES}={given!r}: no socket can have the name {name!r}: set FileDescriptorName= to "
                f"{_KNOWN} in its socket unit"
            )
    return names


def _address(descriptor: int, name: str) -> Address:
    """Return the address of the socket with the name `name`. Raises `SettingError` if it is of no use."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        raise SettingError(
            f"{LISTEN_FDS}: descriptor {descriptor} ({name}) is not open: systemd did not pass it"
        ) from None
    if not is_socket:
        raise SettingError(f"{LISTEN_FDS}: descriptor {descriptor} ({name}) is no socket: use ListenStream=")
    os.set_inheritable(descriptor, False)
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if sock.family not in _FAMILIES or sock.type != socket.SOCK_STREAM:
            raise SettingError(
                f"{LISTEN_FDS}: descriptor {descriptor} ({name}) is neither a TCP nor a Unix stream socket: use "
                "ListenStream="
            )
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise SettingError(
                f"{LISTEN_FDS}: descriptor {descriptor} ({name}) does not listen: set Accept=no in its socket unit"
            )
        return _spelled(sock.getsockname())


def _spelled(name: tuple[str, int] | str | bytes) -> Address:
    """Return what `getsockname` has returned as an address."""
    if isinstance(name, tuple):
        return Address(name[0].partition("%")[0], name[1])
    # The name of an abstract socket begins with a null byte.
    text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    return Address(path=f"@{text[1:]}" if text.startswith("\0") else text)
