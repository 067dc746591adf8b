"""Backends in the frameworks and on the servers that others wrote. All of them do the same."""

import getpass
import os
import shutil
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.backend_requests import SECRET
from tests.support.compatibility import FOLDER, MESSAGES, filled, nginx_user, running, skip_without_library, words
from tests.support.ports import free_port
from tests.support.stage import Stage, received_close
from tests.support.waiting import wait_until, with_timeout

ADA = {"Authorization": "Bearer ada"}
BACKENDS = {
    "aiohttp_app.py": "python aiohttp_app.py {port}",
    "blacksheep_app.py": "uvicorn --port {port} blacksheep_app:app",
    "bottle_app.py": "waitress-serve --listen 127.0.0.1:{port} bottle_app:app",
    "django_app.py": "gunicorn --bind 127.0.0.1:{port} django_app:app",
    "drf_app.py": "gunicorn --bind 127.0.0.1:{port} --worker-class gevent drf_app:app",
    "falcon_app.py": "python -m cheroot --bind 127.0.0.1:{port} falcon_app:app",
    "fastapi_app.py": "uvicorn --port {port} fastapi_app:app",
    "flask_app.py": "gunicorn --bind 127.0.0.1:{port} --worker-class gthread --threads 4 flask_app:app",
    "litestar_app.py": "granian --interface asgi --host 127.0.0.1 --port {port} litestar_app:app",
    "pyramid_app.py": "uwsgi --http-socket 127.0.0.1:{port} --need-app --die-on-term --module pyramid_app:app",
    "quart_app.py": "hypercorn --bind 127.0.0.1:{port} quart_app:app",
    "sanic_app.py": "sanic sanic_app:app --host 127.0.0.1 --port {port} --single-process",
    "starlette_app.py": "daphne --bind 127.0.0.1 --port {port} starlette_app:app",
    "tornado_app.py": "python tornado_app.py {port}",
    "express_app.mjs": "node express_app.mjs {port}",
    "fastify_app.mjs": "node fastify_app.mjs {port}",
    "hapi_app.mjs": "node hapi_app.mjs {port}",
    "hono_app.mjs": "node hono_app.mjs {port}",
    "http_server.mjs": "node http_server.mjs {port}",
    "koa_app.mjs": "node koa_app.mjs {port}",
    "app.php": "php -S 127.0.0.1:{port} app.php",
    "net_http.go": "go run net_http.go {port}",
    "sinatra_app.ru": "puma --bind tcp://127.0.0.1:{port} sinatra_app.ru",
    "mojolicious_app.pl": "perl mojolicious_app.pl daemon --mode production --listen http://127.0.0.1:{port}",
    "cloudevents_app.py": "gunicorn --bind 127.0.0.1:{port} cloudevents_app:app",
    "cloudevents_app.mjs": "node cloudevents_app.mjs {port}",
    "standardwebhooks_app.py": "gunicorn --bind 127.0.0.1:{port} standardwebhooks_app:app",
    "standardwebhooks_app.mjs": "node standardwebhooks_app.mjs {port}",
    "svix_app.py": "gunicorn --bind 127.0.0.1:{port} svix_app:app",
}
PHP_FPM = max(map(str, Path("/usr/sbin").glob("php-fpm*")), default="php-fpm")
"""Its name has its version."""

TEXT_ONLY = {"standardwebhooks_app.py", "standardwebhooks_app.mjs", "svix_app.py"}
"""Those whose library decodes the body, which changes what is not text."""


async def use(stage: Stage, port: int, *, text_only: bool = False) -> None:
    """Let a client connect, be refused, send, receive and be closed, with the backend at `port`."""
    node = await stage.node(backend=None, api_uri=f"127.0.0.1:{port}/hook", api_secret=SECRET)
    with pytest.raises(InvalidStatus) as refused:
        await node.connect("/lobby")
    assert refused.value.response.status_code == 401
    client = await node.connect("/lobby", additional_headers=ADA)
    for message in MESSAGES:
        if isinstance(message, str) or not text_only:
            await client.send(message)
            assert await with_timeout(client.recv()) == message
    (member,) = (await node.rest("GET", "/groups/lobby")).json["connections"]
    assert (await node.rest("PUT", member["id"], "pushed", Content_Type="text/plain")).status == 200
    assert await with_timeout(client.recv()) == "pushed"
    await node.rest("DELETE", member["id"], '{"code": 4000, "reason": "bye"}', Content_Type="application/json")
    assert await received_close(client) == (4000, "bye")
    await wait_until(lambda: node.statistics.disconnects_owed == 0, "the answer to the DELETE")
    assert stage.messages() == []


@pytest.mark.parametrize("script", BACKENDS)
async def test_a_backend_accepts_refuses_replies_and_takes_the_end(
    stage: Stage, request: pytest.FixtureRequest, scripts: Path, script: str
) -> None:
    command = BACKENDS[script]
    words(command)
    skip_without_library(script)
    if script.endswith(".mjs"):
        request.getfixturevalue("npm_packages")
    port = free_port()
    async with running(command.format(port=port), scripts / "backends", port, API_SECRET=SECRET):
        await use(stage, port, text_only=script in TEXT_ONLY)


async def test_php_fpm_behind_nginx(stage: Stage, tmp_path: Path) -> None:
    port = free_port()
    places = {"FOLDER": str(tmp_path), "PORT": str(port), "SCRIPT": str(tmp_path / "app.php")}
    places |= {"USER": nginx_user(), "NAME": getpass.getuser()}
    for name, source in {"fpm.conf": "php_fpm.conf", "nginx.conf": "php_fpm_nginx.conf"}.items():
        (tmp_path / name).write_text(filled(FOLDER / "proxies" / source, places))
    shutil.copy(FOLDER / "backends" / "app.php", tmp_path)
    root = ["--allow-to-run-as-root"] if os.getuid() == 0 else []
    async with (
        running(f"{PHP_FPM} {' '.join(root)} --fpm-config {tmp_path}/fpm.conf", tmp_path, tmp_path / "fpm.sock"),
        running(f"nginx -c {tmp_path}/nginx.conf", tmp_path, port),
    ):
        await use(stage, port)
