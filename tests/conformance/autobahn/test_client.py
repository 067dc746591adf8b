"""The run of the suite fails if its client fails or makes no progress."""

import asyncio
import json
import sys

import pytest

from tests.conformance.autobahn import client
from tests.conformance.autobahn.client import Client

SAYS = """\
Cases = ['1.1.1', '1.1.2', '12.5.18']
Servers = [u'ws://127.0.0.1:15000/put']
Running test case ID 1.1.1 for agent put from peer tcp4:127.0.0.1:15000
Running test case ID 1.1.2 for agent put from peer tcp4:127.0.0.1:15000
Running test case ID 12.5.18 for agent put from peer tcp4:127.0.0.1:15000
Running test case ID 1.1.1 for agent reply from peer tcp4:127.0.0.1:15000
"""


class Watch:
    """Runs a script as the client. `progress`: what it reported; `wrong`: the problems of the client."""

    def __init__(self, folder, says: str, last: str = "") -> None:
        script = folder / "script.py"
        script.write_text(f"import sys, time\nprint({says!r})\n{last}\n")
        self.progress: list[str] = []
        self.client = Client([sys.executable, str(script)], folder, self.progress.append)
        self.wrong = asyncio.run(self.client.run({"cases": ["*"]}))
        self.log = (folder / "client.log").read_text()


def test_the_client_gets_its_cases_and_its_progress_is_followed(tmp_path):
    watch = Watch(tmp_path, SAYS, "print(sys.argv[1:])")
    assert watch.wrong == []
    assert watch.client.cases == ["1.1.1", "1.1.2", "12.5.18"]
    assert watch.progress == ["put: section 1", "put: section 12", "reply: section 1"]
    spec = tmp_path / "spec.json"
    assert json.loads(spec.read_text()) == {"cases": ["*"]}
    assert watch.log == f"{SAYS}\n{['--mode', 'fuzzingclient', '--spec', str(spec)]}\n"


def test_the_client_does_not_inherit_variables_of_python_3(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    watch = Watch(tmp_path, SAYS, "import os; print('PYTHONPATH' in os.environ)")
    assert watch.log.endswith("False\n")


@pytest.mark.parametrize(
    ("says", "last"),
    [
        (SAYS, "sys.exit(1)"),
        (f"{SAYS}Unhandled Error\nTraceback (most recent call last):", ""),
        (f"{SAYS}Unhandled Error\nTraceback (most recent call last):", "time.sleep(600)"),
        ("Cases = []", "time.sleep(600)"),
    ],
    ids=["exit status", "exception", "exception and silence", "no cases"],
)
def test_a_client_that_fails_is_noticed(tmp_path, monkeypatch, says, last):
    monkeypatch.setattr(client, "EXIT_TIMEOUT_S", 0.1)
    watch = Watch(tmp_path, says, f"sys.stdout.flush()\n{last}")
    assert watch.wrong == [f"the client failed, made no progress, or had no case to run: see {tmp_path / 'client.log'}"]


def test_a_client_that_makes_no_progress_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "CASE_TIMEOUT_S", 0.5)
    assert Watch(tmp_path, SAYS, "sys.stdout.flush(); time.sleep(600)").wrong
