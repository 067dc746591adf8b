from typing import Any

from litestar import Litestar, Request, Response, delete, post, put
from litestar.exceptions import NotAuthorizedException


@post("/hook")
async def connect(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    if request.headers.get("Authorization") != "Bearer ada":
        raise NotAuthorizedException
    return {"code": "OK", "groups": [data["request"]["path"].strip("/")]}


@put("/hook")
async def message(request: Request) -> Response[bytes]:
    kind = "text" if request.headers["Content-Type"].startswith("text/") else "binary"
    return Response(await request.body(), media_type="application/octet-stream", headers={"Ws-Reply": kind})


@delete("/hook")
async def disconnect(request: Request) -> None:
    assert (await request.json())["code"]


app = Litestar([connect, message, disconnect])
