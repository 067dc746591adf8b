"""The commands in docs/deployment/systemd.md, run in a machine in their order."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.machine import Machine, skip_unless_possible

pytestmark = pytest.mark.systemd
PAGE = Path(__file__).parents[2] / "docs" / "deployment" / "systemd.md"
COMMANDS = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
INSTALLED = ("release=", "python3 -m venv", '"$release/bin/pip"', "ln -sfn")
"""How lines begin that install the package. The machine has it already."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    skip_unless_possible()
    made = Machine(tmp_path, is_empty=True)
    try:
        made.boot()
        yield made
    finally:
        made.kill()


def test_the_commands_of_the_page_work_in_their_order(machine: Machine) -> None:
    assert len(COMMANDS) > 10
    for block in COMMANDS:
        lines = [line for line in block.splitlines() if not line.startswith(INSTALLED)]
        machine.run("sh", "-euc", "cd /root\n" + "\n".join(lines))
        if "systemctl restart" in block:
            assert machine.show("StatusText").endswith("[::]:8080, 127.0.0.1:8091")
