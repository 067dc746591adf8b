"""The figures of the operating system about the process."""

import os
import resource

import pytest

from wsaas.metrics import process
from wsaas.metrics.process import read_process


def test_the_figures_are_those_of_this_process():
    before = read_process()
    descriptor = os.open(os.devnull, os.O_RDONLY)
    after = read_process()
    os.close(descriptor)
    assert 0 < before.cpu <= after.cpu
    assert after.resident is not None
    assert after.resident > 1 << 20
    if before.open_fds is not None:
        assert after.open_fds == before.open_fds + 1


def test_what_the_system_does_not_know_has_no_value(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "_DESCRIPTORS", "/nowhere")
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, resource.RLIM_INFINITY))
    found = read_process()
    assert found.open_fds is None
    assert found.max_fds is None
