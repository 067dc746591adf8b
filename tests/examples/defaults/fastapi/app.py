"""FastAPI with its defaults, and with two middlewares of Starlette. It is started by:

wsaas dev --no-check -- uvicorn app:app --port {port}
"""

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

app = FastAPI()
app.add_middleware(GZipMiddleware, minimum_size=100)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost"])


class Number(BaseModel):
    n: int


@app.post("/websocket")
@app.delete("/websocket")
async def connected_or_left():
    return {"code": "OK"}


@app.put("/websocket")
async def message(number: Number):
    return Response(str(number.n + 1), headers={"Ws-Reply": "text"})


@app.put("/raw")
async def raw(request: Request):
    return Response(str(len(await request.body())))


@app.put("/parsed-first")
async def parsed_first(number: Number, request: Request):
    return Response(await request.body())


@app.post("/slash/")
async def slash():
    return "found"


@app.get("/without-methods")
async def without_methods():
    return "found"


@app.get("/long")
async def long():
    return Response("x" * 1000)
