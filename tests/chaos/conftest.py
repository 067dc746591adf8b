"""The chaos test takes minutes, so it runs only with `--chaos-seconds`."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the chaos test, if this folder is named on the command line."""
    group = parser.getgroup("chaos")
    group.addoption("--chaos-seconds", type=float, help="how long to kill and restart backend and gateway")
    group.addoption("--chaos-clients", type=int, default=200, help="how many clients there are at a time")
    group.addoption("--chaos-hostile", type=int, default=48, help="how many hostile connections there are at a time")
    group.addoption("--chaos-tls", action="store_true", help="clients and pushes use TLS")
    group.addoption("--chaos-workers", type=int, default=1, help="how many workers the gateway has")
    group.addoption("--chaos-nodes", type=int, default=1, help="how many nodes the cluster has; 1: no cluster")
    group.addoption("--chaos-seed", type=int, help="repeat the choices of an earlier run")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not collect the chaos tests without `--chaos-seconds`; collect those of a cluster with `--chaos-nodes`."""
    if collection_path.name not in ("test_chaos.py", "test_cluster_chaos.py"):
        return None
    is_cluster = config.getoption("--chaos-nodes", 1) > 1
    is_asked_for = config.getoption("--chaos-seconds", None) and is_cluster == ("cluster" in collection_path.name)
    return None if is_asked_for else True
