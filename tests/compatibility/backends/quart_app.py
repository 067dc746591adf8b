from quart import Quart, Response, request

app = Quart(__name__)


@app.post("/hook")
async def connect():
    if request.headers.get("Authorization") != "Bearer ada":
        return {"code": "UNAUTHORIZED"}, 401
    return {"code": "OK", "groups": [(await request.json)["request"]["path"].strip("/")]}


@app.put("/hook")
async def message():
    kind = "text" if request.mimetype == "text/plain" else "binary"
    return Response(await request.get_data(), headers={"Ws-Reply": kind})


@app.delete("/hook")
async def disconnect():
    return {"code": str((await request.json)["code"])}
