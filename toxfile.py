"""Skips `autobahn-fast`, also that of the compiled wheel, if Python 2.7 is missing, which tox.ini cannot express."""

import runpy
from pathlib import Path

from tox.plugin import impl
from tox.tox_env.api import ToxEnv
from tox.tox_env.errors import Skip

PYTHON2 = Path(__file__).parent / "tests" / "conformance" / "autobahn" / "python2.py"


@impl
def tox_before_run_commands(tox_env: ToxEnv) -> None:
    """Skip these without Python 2.7. `autobahn` fails instead, and says how to get it."""
    if tox_env.name in {"autobahn-fast", "compiled-autobahn-fast"}:
        python2 = runpy.run_path(str(PYTHON2))
        if python2["find"]() is None:
            raise Skip(python2["HOW_TO_GET_IT"])
