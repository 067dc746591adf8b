from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Request, Response

app = FastAPI()


@app.post("/hook")
async def connect(body: dict, authorization: Annotated[str | None, Header()] = None):
    if authorization != "Bearer ada":
        raise HTTPException(401)
    return {"code": "OK", "groups": [body["request"]["path"].strip("/")]}


@app.put("/hook")
async def message(request: Request):
    kind = "text" if request.headers["Content-Type"].startswith("text/") else "binary"
    return Response(await request.body(), headers={"Ws-Reply": kind})


@app.delete("/hook")
async def disconnect(body: dict):
    return {"code": str(body["code"])}
