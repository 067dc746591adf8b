"""Checks of blocks without a language: drawings, and what the gateway prints."""

import re
from functools import cache
from pathlib import Path

from tests.docs.code_blocks import ROOT, Block
from wsaas.log.formats import LEVELS

LOG_LINE = re.compile(r"(?:gateway +\| )?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ([A-Z]+) (.+)")
DRAWN = re.compile(r"[═─│┌┐└┘├┤◀▶].*[═─│┌┐└┘├┤◀▶]", re.DOTALL)
OF_STATUS = re.compile(r" *(Active|TriggeredBy|Main PID|Status): .+| +● [\w.-]+")
OF_ANALYZE = re.compile(r"→ Overall exposure level for [\w.]+: \d\.\d OK .")
KERNEL = re.compile(r"((?:fs|kernel|net|vm)(?:\.\w+)+) = [\d ]+")


@cache
def source() -> str:
    """Return the source of the gateway on one line, with strings joined that go over several lines."""
    text = "\n".join(path.read_text() for path in (ROOT / "wsaas").rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", re.sub(r"\\\n", "", text))


def check_text(block: Block) -> None:
    """Raise unless each line is of a drawing, of the log, of a greeting or of an HTTP message."""
    if block.elsewhere or DRAWN.search(block.text):
        return
    for line in filter(str.strip, block.text.splitlines()):
        checks = (is_log_line, is_of_greeting, is_of_quick_start, is_version, is_of_http, is_of_systemd, is_of_kernel)
        assert any(check(line) for check in checks), f"no check covers {line!r}"


def is_log_line(line: str) -> bool:
    """Tell whether a line has the format of the log, and begins with words that the gateway logs."""
    found = LOG_LINE.fullmatch(line)
    if not found:
        return False
    assert found[1] in LEVELS, f"there is no level {found[1]}"
    said = re.sub(r"^\S+/[\w-]{30}: |^\S+ /\S*: ", "", found[2])
    words = re.match(r"[a-z ]{8,}", said)
    assert words is None or words[0].strip().rpartition(" ")[0] in source(), f"the gateway does not log {words}"
    return True


def is_of_greeting(line: str) -> bool:
    """Tell whether a line is one of what `wsaas dev` and `wsaas lambda` print when they listen, or of their check."""
    found = re.fullmatch(r"  (\w+) +http://\S+|  (\w+) +ws://\S+|  (Ctrl-C ends both)\.", line)
    if found:
        return any(each in source() for each in found.groups() if each)
    return re.fullmatch(r"check +\| (OK|WARN|FAIL) +[\w -]+: .+", line) is not None


def is_of_quick_start(line: str) -> bool:
    """Tell whether a line is one that the backend of the quick start prints, with what `wsaas dev` puts in front."""
    return re.fullmatch(r"backend \| (POST|PUT|DELETE) localhost:8080/[\w-]{30}", line) is not None


def is_version(line: str) -> bool:
    """Tell whether a line is the command that prints the version, or its output."""
    return re.fullmatch(r"\$ wsaas --version|wsaas \d+\.\d+\.\d+ \((compiled|pure Python)\)", line) is not None


def is_of_systemd(line: str) -> bool:
    """Tell whether a line is of the output of `systemctl status` or `systemd-analyze security`: by its form only."""
    return (OF_STATUS.fullmatch(line) or OF_ANALYZE.fullmatch(line)) is not None


def is_of_kernel(line: str) -> bool:
    """Tell whether a line is a parameter of the kernel, which has it where it is Linux. Modules add some later."""
    found = KERNEL.fullmatch(line)
    if not found:
        return False
    path = Path("/proc/sys", *found[1].split("."))
    return path.exists() or not Path("/proc/sys").exists() or not path.parent.exists()


def is_of_http(line: str) -> bool:
    """Tell whether a line is a status line, or a header that the gateway reads or sends."""
    if re.fullmatch(r"HTTP/1\.1 \d{3} [A-Z][\w ]*", line):
        return True
    header = re.fullmatch(r"([A-Za-z-]+): .+|Content-Length: 0", line)
    return header is not None and line.partition(":")[0].lower() in source().lower()
