"""Whether the tests run against the build that the environment says."""

import os

from wsaas.build_kind import BUILD

VARIABLE = "EXPECTED_BUILD"


def check_build() -> None:
    """Exit unless the gateway is of the build that `EXPECTED_BUILD` names, if it is set."""
    expected = os.environ.get(VARIABLE, BUILD)
    if expected != BUILD:
        raise SystemExit(f"{VARIABLE}={expected}, but the wsaas that is imported is {BUILD}")
