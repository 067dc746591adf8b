"""A backend in FastAPI. It is started by:

wsaas dev --header 'Authorization: Bearer ada-token' -- uvicorn app:app --port {port} --timeout-keep-alive 80
"""

import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from wsaas import backend

USERS = {"Bearer ada-token": "ada", "Bearer ben-token": "ben"}  # in place of your users and sessions
UNAUTHORIZED = backend.reject("UNAUTHORIZED", status=401)


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with backend.AsyncClient(os.environ["WS_HOSTNAME"], token=os.environ["CONTROL_TOKEN"]) as app.state.gateway:
        yield


app = FastAPI(lifespan=lifespan)
app.add_exception_handler(backend.WebhookVerificationError, lambda *_: Response(*UNAUTHORIZED))
app.add_exception_handler(ValueError, lambda _, error: Response(*backend.bad_request(str(error))))
app.add_exception_handler(backend.Gone, lambda _, error: Response(status_code=error.status))


@app.api_route("/websocket", methods=["POST", "PUT", "DELETE"])
async def websocket(request: Request) -> Response:
    body = await request.body()
    backend.verify(request.headers, body, os.environ["API_SECRET"])
    return Response(*handle(backend.parse(request.method, request.headers, body)))


def handle(event: backend.Event) -> backend.Answer:
    match event:
        case backend.Connect(authorization=token) if token in USERS:
            return backend.accept(context=USERS[token], groups=["lobby"])
        case backend.Connect():
            return UNAUTHORIZED
        case backend.Message(data="bye"):
            return backend.ok(close=(4000, "bye"))
        case backend.Message(data=data):
            return backend.ok(data)
        case backend.Disconnect(context=user, code=code):
            print(f"{user} left: {code}")
            return backend.ok()


@app.post("/notify")
async def notify(request: Request, to: str | None = None) -> Response:
    if request.headers.get("authorization") not in USERS:
        return Response(*UNAUTHORIZED)
    text = (await request.body()).decode()
    gateway = request.app.state.gateway
    await (gateway.push(to, text) if to else gateway.publish("lobby", text))
    return Response(*backend.ok())
