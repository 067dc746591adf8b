"""The folder of a node: the private sockets of its workers, and their journals if `JOURNAL` is not set.

Two locks (flock) tell other processes who uses a folder: the supervisor holds one, and the workers inherit the other,
so it is free when all of them have ended. A supervisor that was killed leaves its folder to its workers, which drain.
The last of them removes it; if they were killed, too, the next supervisor does.

A folder is removed only if it has both locks, belongs to this user, and nobody else can enter it. Only files that nodes
make are removed, so a folder with other files stays. Symbolic links are not followed.
"""

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "wsaas-"
"""What the names of folders begin with."""

_SUPERVISOR: Final = "supervisor"
_WORKERS: Final = "workers"
_NAME: Final = re.compile(rf"{PREFIX}[a-z0-9_]+")
_FILE: Final = re.compile(rf"[\w-]+\.sock|journal\.[0-9]+([-.].*)?|{_SUPERVISOR}(\.new)?|{_WORKERS}")


class RuntimeFolder:
    """A folder, from `create` until `remove`.

    `path`: empty if there is none. `lock`: the descriptor of a lock that the workers inherit.
    """

    def __init__(self) -> None:
        """Create nothing yet."""
        self._stack = ExitStack()
        self.lock: int | None = None
        self.path = ""

    def create(self, parent: Path) -> None:
        """Create a folder in `parent`. Raises `OSError`; call `remove` then."""
        self.path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        self.lock = self._lock(Path(self.path, _WORKERS))
        # Locked before it has its name. Otherwise a supervisor that starts now could take the folder for an old one.
        draft = Path(self.path, f"{_SUPERVISOR}.new")
        self._lock(draft)
        draft.rename(Path(self.path, _SUPERVISOR))

    def remove(self) -> None:
        """Remove the folder. May be called again."""
        # While the locks are held: nobody else removes it.
        if self.path:
            _remove(Path(self.path))
            self.path = ""
        self._stack.close()

    def _lock(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor


def parent_folder(environment: Mapping[str, str]) -> Path:
    """Return where the folders of nodes are."""
    user = environment.get("XDG_RUNTIME_DIR", "")
    # The folder of the user, which is in memory, if there is one.
    return Path(user if os.access(user, os.W_OK) else tempfile.gettempdir())


def sweep(parent: Path) -> bool:
    """Remove the folders in `parent` whose processes have ended.

    Returns whether there are workers without a supervisor, which drain.
    """
    try:
        names = [each.name for each in parent.iterdir()]
    except OSError:
        return False
    used = [sweep_folder(parent / name) for name in names if _NAME.fullmatch(name)]
    return any(used)


def sweep_folder(path: Path) -> bool:
    """Remove the folder `path` if its processes have ended; return whether only its supervisor has."""
    with suppress(OSError), ExitStack() as stack:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        stack.callback(os.close, folder)
        status = os.fstat(folder)
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) != stat.S_IRWXU:
            return False
        for name in (_SUPERVISOR, _WORKERS):
            # Not to wait for anything that only has the name of a lock.
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return name == _WORKERS
        _remove(path)
    return False


def _remove(path: Path) -> None:
    """Remove a folder and the files in it that nodes make."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # Not by its path, which could lead to another folder meanwhile.
            for name in filter(_FILE.fullmatch, os.listdir(folder)):  # noqa: PTH208
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)
        path.rmdir()
