"""A page in a browser does what the other clients do."""

import asyncio
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.chromium import find_chromium
from tests.support.compatibility import FOLDER, environment, words
from tests.support.echo import serve
from tests.support.stage import Stage
from tests.support.waiting import TIMEOUT_S

FIREFOX = next(filter(shutil.which, ("firefox-esr", "firefox")), "firefox")
BROWSERS = {
    "chromium": "{chromium} --headless --no-sandbox --disable-gpu --user-data-dir={profile} {page}",
    "firefox": FIREFOX + " --headless --no-remote --profile {profile} {page}",
}


class Site(ThreadingHTTPServer):
    """Serves the page, and takes what it has seen."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: queue.Queue[Any] = queue.Queue()


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(FOLDER / "clients"))

    def do_POST(self) -> None:
        assert isinstance(self.server, Site)
        self.server.seen.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def what_is_seen(command: list[str], site: Site, home: Path) -> Any:
    """Run a browser until its page has told what it has seen."""
    null = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment(home), stdout=null, stderr=null) as process:
        try:
            return site.seen.get(timeout=2 * TIMEOUT_S)
        finally:
            process.terminate()


@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_page_gets_all_that_it_is_sent_and_the_reason_of_its_end(
    stage: Stage, site: Site, tmp_path: Path, browser: str
) -> None:
    node = await serve(stage)
    profile = tmp_path / "profile"
    profile.mkdir()
    page = f"http://127.0.0.1:{site.server_port}/browser.html?url=ws://127.0.0.1:{node.port}/"
    command = words(BROWSERS[browser].format(chromium=find_chromium(), profile=profile, page=page))
    seen = await asyncio.to_thread(what_is_seen, command, site, tmp_path)
    assert seen == {
        "subprotocol": "chat",
        "same": [True] * 5,
        "pushed": "pushed",
        "close": [4000, "done"],
        "refused": 1006,
    }
