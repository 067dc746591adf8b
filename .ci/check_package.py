#!/usr/bin/env python3
"""Build the sdist and the pure wheel twice, compare them, check what is in them, and run the command with pipx and uv.

`check_package.py FOLDER`: the folder is for all that is built and installed.
"""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Mapping
from email import message_from_bytes
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parent.parent
TIME_LIMIT_S = 300
EXTRAS = {"backend", "cluster", "demo", "otel"}
DATA = {
    "wsaas/py.typed",
    "wsaas/api/openapi.json",
    "wsaas/console_page/parts/page.html",
    "wsaas/demo/web/page.html",
    *(f"wsaas/cli/completions/wsaas.{shell}" for shell in ("bash", "fish", "zsh")),
}
"""Some of the files in the wheel that are not Python."""
TOP = {"wsaas", "data", "dist-info"}


class PackageError(Exception):
    """Something is wrong with the package."""


def run(*command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command to its end; return its output."""
    done = subprocess.run(  # noqa: S603 - tools, and what was built
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIME_LIMIT_S,
        check=True,
    )
    return done.stdout.strip()


def tracked() -> set[str]:
    """Return the files of the repository, or of the sdist that this file is in."""
    if (ROOT / ".git").exists():
        return set(run("git", "ls-files", cwd=ROOT).splitlines())
    return {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()} - {"PKG-INFO"}


def build(folder: Path, files: set[str], mode: int) -> dict[str, bytes]:
    """Build in a copy of `files` that have this `mode`, and the time of now; return what was built by its name."""
    source, built = folder / "source", folder / "dist"
    for name in files:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
        target.chmod(mode)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}
    environment.pop("WSAAS_COMPILE", None)
    run(sys.executable, "-m", "build", "--outdir", str(built), str(source), env=environment)
    # `build` makes the wheel of the sdist; this one is made of the files themselves.
    direct = folder / "direct"
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(direct), str(source), env=environment)
    found = {path.name: path.read_bytes() for path in built.iterdir()}
    for path in direct.iterdir():
        if path.read_bytes() != found[path.name]:
            raise PackageError(f"{path.name} is not the same when it is built of the sdist")
    return found


def check_wheel(path: Path) -> str:
    """Fail unless the wheel has what it needs, and nothing else; return its version."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (metadata_name,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(wheel.read(metadata_name))
    if missing := DATA - names:
        raise PackageError(f"missing in the wheel: {sorted(missing)}")
    if others := {name.partition("/")[0].rpartition(".")[2] for name in names} - TOP:
        raise PackageError(f"in the wheel, but not of the package: {sorted(others)}")
    if not any(name.endswith("/share/man/man1/wsaas.1") for name in names):
        raise PackageError("the wheel has no man page")
    extras = set(metadata.get_all("Provides-Extra", []))
    if extras != EXTRAS:
        raise PackageError(f"the extras are {sorted(extras)}")
    if "](docs/" in str(metadata.get_payload()):
        raise PackageError("the description has a link that leads nowhere on PyPI")
    return str(metadata["Version"])


def check_sdist(path: Path, files: set[str]) -> None:
    """Fail unless the sdist has the files of the repository: what builds, tests and documents the package."""
    with tarfile.open(path) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    if different := (files ^ names) - {"PKG-INFO"}:
        raise PackageError(f"in the sdist or in the repository, but not in both: {sorted(different)}")


def check_command(command: list[str], version: str, home: Path) -> None:
    """Fail unless this `command` is `wsaas`: it tells its version, and runs the demo."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HOME": str(home), "PIPX_HOME": str(home / "pipx"), "UV_CACHE_DIR": str(home / "uv")}
    # uv has authorities of its own. A registry may be reached through a proxy with one that this machine trusts.
    environment["UV_SYSTEM_CERTS"] = "1"
    said = run(*command, "--version", env=environment, cwd=home)
    if said != f"wsaas {version} (pure Python)":
        raise PackageError(f"{' '.join(command)} --version printed {said!r}")
    with subprocess.Popen(  # noqa: S603 - as above
        [*command, "demo"],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        try:
            page = find_page(demo)
            with urlopen(page, timeout=TIME_LIMIT_S) as response:  # noqa: S310 - always http
                if b"<title>" not in response.read():
                    raise PackageError(f"the demo has no page at {page}")
        finally:
            os.killpg(demo.pid, signal.SIGINT)
    print(f"{' '.join(command[1:4])}: {said}, with the demo at {page}")


def find_page(demo: "subprocess.Popen[str]") -> str:
    """Return the URL of the page that the demo prints."""
    deadline = time.monotonic() + TIME_LIMIT_S
    output = ""
    for line in demo.stdout or ():
        output += line
        if "Open http://" in line:
            return line.split()[line.split().index("Open") + 1]
        if time.monotonic() > deadline:
            break
    raise PackageError(f"the demo printed no address of a page: {output}")


def main(folder: Path) -> None:
    """Make all checks."""
    shutil.rmtree(folder, ignore_errors=True)
    files = tracked()
    built = build(folder / "first", files, 0o644)
    again = build(folder / "second" / "elsewhere", files, 0o600)
    for name, data in built.items():
        if data != again[name]:
            raise PackageError(f"{name} was not built the same twice")
    paths = {path.suffix: path for path in (folder / "first" / "dist").iterdir()}
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, paths.values()))
    version, wheel = check_wheel(paths[".whl"]), str(paths[".whl"])
    check_sdist(paths[".gz"], files)
    print(f"built the same twice: {', '.join(sorted(built))}")
    python = [sys.executable, "-m"]
    check_command([*python, "pipx", "run", "--spec", wheel, "wsaas"], version, folder / "pipx")
    check_command([*python, "uv", "tool", "run", "--from", wheel, "wsaas"], version, folder / "uvx")
    run_module = [*python, "uv", "run", "--no-project", "--isolated", "--with", wheel, "python", "-m", "wsaas"]
    check_command(run_module, version, folder / "module")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).absolute())
    except PackageError as error:
        sys.exit(str(error))
