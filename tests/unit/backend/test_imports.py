"""What a backend gets with `import wsaas.backend`: little, as it may be a serverless function."""

import subprocess
import sys

HEAVY = {"asyncio", "httptools", "httpx2", "orjson", "prometheus_client", "ssl", "uvloop", "websockets", "wsproto"}


def test_the_import_is_light():
    program = "import sys, wsaas.backend; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & HEAVY == set()
    assert {each for each in loaded if each.startswith("wsaas.") and not each.startswith("wsaas.backend")} == set()
