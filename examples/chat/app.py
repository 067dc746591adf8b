"""A chat with rooms, for users who have logged in. It is started by:

wsaas dev --no-check -- uvicorn app:app --port {port} --timeout-keep-alive 80
"""

import json
import logging
import os
import re
import secrets
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from wsaas import backend

PASSWORDS = {"ada": "lovelace", "ben": "franklin"}  # in place of your users
SESSIONS: dict[str, str] = {}  # in place of your store of sessions
ROOM = re.compile(r"[a-z0-9-]{1,32}")
MAX_TEXT = 4000  # characters
PAGE = Path(__file__).with_name("index.html")
LOG = logging.getLogger("uvicorn.error")


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with backend.AsyncClient(os.environ["WS_HOSTNAME"], token=os.environ["CONTROL_TOKEN"]) as app.state.gateway:
        yield


app = FastAPI(lifespan=lifespan)
app.add_exception_handler(backend.WebhookVerificationError, lambda *_: Response(status_code=401))
app.add_exception_handler(backend.InvalidEvent, lambda _, error: Response(*backend.bad_request(str(error))))


@app.exception_handler(backend.GatewayError)
async def gateway_failed(_: Request, error: backend.GatewayError) -> Response:
    LOG.error("the gateway refused a request: %r", error)
    # The gateway sends a message or a disconnect again after this answer. A client that connects gets 503.
    return Response(*backend.retry_later(1))


@app.get("/")
async def page() -> Response:
    return FileResponse(PAGE)


@app.post("/login")
async def login(request: Request) -> Response:
    # A form of another site has another type. That site could make its visitors log in as somebody else.
    if not request.headers.get("content-type", "").startswith("application/json"):
        return JSONResponse({"code": "UNSUPPORTED_MEDIA_TYPE"}, status_code=415)
    try:
        form = await request.json()
        user, password = str(form["user"]), str(form["password"]).encode()
    except (LookupError, TypeError, ValueError):
        return JSONResponse({"code": "BAD_REQUEST"}, status_code=400)
    if not secrets.compare_digest(PASSWORDS.get(user, secrets.token_hex()).encode(), password):
        return JSONResponse({"code": "WRONG_PASSWORD"}, status_code=401)
    session = secrets.token_urlsafe()
    SESSIONS[session] = user
    # Where clients reach the gateway. In production, it is behind the same host name as this page.
    answer = JSONResponse({"gateway": os.environ.get("GATEWAY_URL", f"ws://{os.environ['WS_HOSTNAME']}")})
    answer.set_cookie("session", session, httponly=True, samesite="lax")  # add secure=True where there is TLS
    return answer


@app.api_route("/websocket", methods=["POST", "PUT", "DELETE"])
async def websocket(request: Request) -> Response:
    body = await request.body()
    backend.verify(request.headers, body, os.environ["API_SECRET"])
    event = backend.parse(request.method, request.headers, body)
    return Response(*await handle(event, request.app.state.gateway))


async def handle(event: backend.Event, gateway: backend.AsyncClient) -> backend.Answer:
    match event:
        case backend.Connect():
            return await connect(event, gateway)
        case backend.Message():
            return await message(event, gateway)
        case backend.Disconnect(context=str(context)):
            room, user = context.split("/")
            await leave(gateway, room, user, own=0)
    return backend.ok()


async def connect(event: backend.Connect, gateway: backend.AsyncClient) -> backend.Answer:
    user = SESSIONS.get((event.authorization or "").removeprefix("Bearer "))
    room = event.request.path.removeprefix("/rooms/")
    # A page can read the code and the reason of a Close, but not the status of a refused handshake.
    if user is None:
        return backend.reject("UNAUTHORIZED", close=(4401, "log in first"))
    if not ROOM.fullmatch(room):
        return backend.reject("NO_SUCH_ROOM", close=(4404, "no such room"))
    # The client is no member yet: the others get this, and it gets the list when it is connected.
    await publish(gateway, room, type="joined", user=user)
    await gateway.push(event.ws_uri, await members(gateway, room, user))
    return backend.accept(context=f"{room}/{user}", groups=[room, f"{room}:{user}"])


async def message(event: backend.Message, gateway: backend.AsyncClient) -> backend.Answer:
    room, user = (event.context or "").split("/")
    try:
        match event.json():
            case {"text": str(text)} if len(text) <= MAX_TEXT:
                # The gateway may send an event twice, with the same id. The page shows each id once.
                await publish(gateway, room, type="message", user=user, text=text, id=event.event_id)
                return backend.ok()
            case {"room": str(other)} if ROOM.fullmatch(other) and other != room:
                await leave(gateway, room, user, own=1)
                await publish(gateway, other, type="joined", user=user)
                reply = await members(gateway, other, user)
                joined, left = [other, f"{other}:{user}"], [room, f"{room}:{user}"]
                return backend.ok(reply, join=joined, leave=left, context=f"{other}/{user}")
    except backend.InvalidEvent:
        pass
    return backend.ok(close=(4400, f"expected a text of up to {MAX_TEXT} characters, or another room"))


async def leave(gateway: backend.AsyncClient, room: str, user: str, *, own: int) -> None:
    """Publish that a user has left a room, unless another tab is still there.

    `own`: connections that are about to leave. One that has ended is no member any more.
    """
    if (await gateway.members(f"{room}:{user}", limit=1)).total <= own:
        await publish(gateway, room, type="left", user=user)


async def publish(gateway: backend.AsyncClient, room: str, **message: str) -> None:
    await gateway.publish(room, json.dumps(message))


async def members(gateway: backend.AsyncClient, room: str, user: str) -> str:
    """Return the message that says who is in a room, with `user`."""
    found = {client.context.split("/")[1] async for client in gateway.iter_members(room) if client.context}
    return json.dumps({"type": "room", "room": room, "users": sorted(found | {user})})
