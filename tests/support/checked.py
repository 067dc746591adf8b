"""Runs the checks of `wsaas check` in this process."""

from typing import Any

from tests.support.backend import Backend
from tests.support.ports import free_port
from tests.support.stage import load_settings
from wsaas.check.context import Options
from wsaas.check.report import Finding, Report, Status, secrets_of
from wsaas.check.run import check


class Checked:
    """The findings of a check."""

    def __init__(self, report: Report, shown: list[Finding]) -> None:
        assert shown == report.findings
        self.findings = report.findings
        self.is_complete = report.is_complete

    def __repr__(self) -> str:
        return "\n".join(finding.line() for finding in self.findings)

    def of(self, name: str) -> Finding:
        """Return the only finding of a check."""
        (found,) = [each for each in self.findings if each.check == name]
        return found

    def wrong(self) -> list[tuple[str, str]]:
        """Return status and name of each finding that is not OK."""
        return [(each.status.value, each.check) for each in self.findings if each.status is not Status.OK]


async def run_check(api_uri: str | Backend, options: Options | None = None, **chosen: Any) -> Checked:
    """Check a backend with these settings; a free port of loopback takes the pushes."""
    uri = f"{api_uri.authority}/hook" if isinstance(api_uri, Backend) else api_uri
    settings = load_settings(**{"api_uri": uri, "ws_hostname": f"127.0.0.1:{free_port()}", **chosen})
    options = options or Options()
    shown: list[Finding] = []
    report = Report(shown.append, secrets_of(settings, options.path.partition("?")[2], options.headers))
    await check(settings, report, options)
    return Checked(report, shown)
