"""A backend whose clients are pages in browsers, with a session or a one-time ticket. It is started by:

wsaas dev --no-check -- uvicorn app:app --port {port} --timeout-keep-alive 80
"""

import os
import secrets
import time

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from wsaas import backend

PASSWORDS = {"ada": "lovelace", "ben": "franklin"}  # in place of your users
SESSIONS: dict[str, str] = {}  # in place of your store of sessions, which all processes share
TICKETS: dict[str, tuple[str, float, str | None]] = {}  # user, end, and the event that has used the ticket
TICKET_S = 60

app = FastAPI()
app.add_exception_handler(backend.WebhookVerificationError, lambda *_: Response(status_code=401))
app.add_exception_handler(backend.InvalidEvent, lambda _, error: Response(*backend.bad_request(str(error))))


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
    answer = JSONResponse({"code": "OK"})
    answer.set_cookie("session", session, httponly=True, samesite="lax")  # add secure=True where there is TLS
    return answer


@app.post("/ticket")
async def ticket(request: Request) -> Response:
    user = SESSIONS.get(request.cookies.get("session", ""))
    if user is None:
        return JSONResponse({"code": "UNAUTHORIZED"}, status_code=401)
    now = time.monotonic()
    for each in [each for each, (_, end, _) in TICKETS.items() if end < now]:
        del TICKETS[each]
    new = secrets.token_urlsafe()
    TICKETS[new] = (user, now + TICKET_S, None)
    return JSONResponse({"ticket": new})


def user_of(token: str, event_id: str) -> str | None:
    """Return whose session or unused ticket it is. The same event may come twice, if its answer was lost."""
    if token in SESSIONS:
        return SESSIONS[token]
    user, end, used_by = TICKETS.get(token, (None, 0.0, None))
    if user is None or end < time.monotonic() or used_by not in {None, event_id}:
        return None
    TICKETS[token] = (user, end, event_id)
    return user


@app.api_route("/websocket", methods=["POST", "PUT", "DELETE"])
async def websocket(request: Request) -> Response:
    body = await request.body()
    backend.verify(request.headers, body, os.environ["API_SECRET"])
    return Response(*handle(backend.parse(request.method, request.headers, body)))


def handle(event: backend.Event) -> backend.Answer:
    match event:
        case backend.Connect(authorization=header):
            user = user_of((header or "").removeprefix("Bearer "), event.event_id)
            if user is None:
                return backend.reject("UNAUTHORIZED", close=(4401, "log in first"))
            return backend.accept(context=user, groups=[f"user:{user}"])
        case backend.Message(context=user, data=data):
            return backend.ok(f"{user}: {data}")
    return backend.ok()
