"""What docs/guides/browser-authentication.md says of sessions that only their middleware can read, with Sinatra."""

import asyncio
import re
from pathlib import Path
from urllib.request import urlopen

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.compatibility import running, words
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import wait_until

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "browser-authentication.md").read_text()
PUMA = "puma --bind tcp://127.0.0.1:{port} app.ru"
APP = """
require "json"
require "sinatra/base"

class TokenBecomesCookie
  def initialize(app) = @app = app

  def call(env)
    %(middleware)s if env["PATH_INFO"] == "/hook"
    @app.call(env)
  end
end

class Hook < Sinatra::Base
  set :sessions, key: "_site_session"
  set :session_secret, "s" * 64
  %(protection)s

  post("/login") { session["user"] = "ada" }
  post("/hook") { JSON.generate(session["user"] ? { code: "OK", context: session["user"] } : { code: "UNAUTHORIZED" }) }
  delete("/hook") { "" }
end

use TokenBecomesCookie
run Hook
"""


def quoted(pattern: str) -> str:
    """Return the one code span of the guide that matches."""
    (span,) = re.findall(f"`({pattern})`", GUIDE)
    return str(span)


def log_in(port: int) -> str:
    """Return the cookie of a new session."""
    with urlopen(f"http://127.0.0.1:{port}/login", data=b"") as answer:
        return str(answer.headers["Set-Cookie"]).partition(";")[0]


@pytest.mark.parametrize("is_found", [True, False], ids=["found", "tied to the browser"])
async def test_an_encrypted_session_is_found_by_the_token_unless_it_is_tied_to_the_browser(
    stage: Stage, tmp_path: Path, is_found: bool
) -> None:
    words(PUMA)
    protection = quoted(r"set :protection, [^`]+") if is_found else ""
    (tmp_path / "app.ru").write_text(
        APP % {"middleware": quoted(r"env\['HTTP_COOKIE'\] = [^`]+"), "protection": protection}
    )
    port = free_port()
    async with running(PUMA.format(port=port), tmp_path, port):
        node = await stage.node(
            backend=None, api_uri=f"127.0.0.1:{port}/hook", browser_authorization="cookie:_site_session"
        )
        with pytest.raises(InvalidStatus):
            await node.connect("/")
        cookie = {"Cookie": await asyncio.to_thread(log_in, port), "User-Agent": "a browser"}
        if is_found:
            client = await node.connect("/", additional_headers=cookie)
            (connection,) = (await node.rest("GET", "/connections")).json["connections"]
            assert connection["context"] == "ada"
            await client.close()
            await wait_until(lambda: node.statistics.disconnects_owed == 0, "the answer to the DELETE")
        else:
            with pytest.raises(InvalidStatus):
                await node.connect("/", additional_headers=cookie)
