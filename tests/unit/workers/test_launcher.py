import os
import sys

import pytest

from wsaas.worker_place import PLACE_VARIABLE, WorkerPlace, from_text
from wsaas.workers.launcher import Launcher, channel_pair

PLACE = WorkerPlace(
    index=1,
    count=3,
    channel=7,
    folder="/run/x",
    journal="/run/x/journal.2",
    is_journal_kept=False,
    sockets={"unix:/a b": [9]},
    kept=["unix:/a b"],
)


def test_a_place_becomes_text_and_a_place_again():
    assert from_text(PLACE.to_text()) == PLACE
    counting = WorkerPlace(index=0, count=1, channel=3, folder="", journal="", is_journal_kept=True, counts=4, kept=[])
    assert from_text(counting.to_text()) == counting


def test_a_worker_inherits_its_descriptors():
    assert PLACE.descriptors == [7, 9]
    assert WorkerPlace(
        index=0, count=1, channel=3, folder="", journal="", is_journal_kept=True, counts=4
    ).descriptors == [3, 4]


def test_workers_are_counted_from_1_for_people():
    assert PLACE.name == "worker 2"


@pytest.fixture
def started(monkeypatch):
    """The arguments of the processes that were started."""
    made = []

    async def start(*arguments, **options):
        made.append((arguments, options))

    monkeypatch.setattr("asyncio.create_subprocess_exec", start)
    return made


def launch(made, flags):
    """Run a launch, which does not wait for anything here."""
    with pytest.raises(StopIteration):
        made.launch(PLACE, flags).send(None)


def test_a_worker_has_the_flags_of_the_supervisor_except_the_ports_that_were_bound(started):
    launch(Launcher({"api_uri": "a/b", "listen": ":0", "log_level": None}, {}, {}), {"listen": ":80", "workers": "3"})
    ((arguments, options),) = started
    assert arguments == (sys.executable, "-m", "wsaas", "--api-uri=a/b", "--listen=:80", "--workers=3")
    assert options["pass_fds"] == [7, 9]
    assert options["start_new_session"]


def test_a_worker_has_the_settings_of_the_supervisor_and_no_others(started):
    inherited = {"PATH": "/bin", "API_URI": "ignored", "WORKERS": "9"}
    launch(Launcher({}, {"API_URI": "a/b"}, inherited), {})
    ((_, options),) = started
    place = options["env"].pop(PLACE_VARIABLE)
    assert from_text(place) == PLACE
    assert options["env"] == {"PATH": "/bin", "API_URI": "a/b"}


def test_the_ends_of_a_channel_are_not_inherited_by_accident():
    for end in channel_pair():
        with end:
            assert not os.get_inheritable(end.fileno())
