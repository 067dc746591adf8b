from sanic import Sanic, json, raw

app = Sanic("hook")


@app.post("/hook")
async def connect(request):
    if request.headers.get("Authorization") != "Bearer ada":
        return json({"code": "UNAUTHORIZED"}, 401)
    return json({"code": "OK", "groups": [request.json["request"]["path"].strip("/")]})


@app.put("/hook")
async def message(request):
    kind = "text" if request.content_type.startswith("text/") else "binary"
    return raw(request.body, headers={"Ws-Reply": kind})


@app.delete("/hook", ignore_body=False)
async def disconnect(request):
    return json({"code": str(request.json["code"])})
