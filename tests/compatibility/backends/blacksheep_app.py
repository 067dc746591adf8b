from blacksheep import Application, Content, Request, Response, delete, json, post, put

app = Application()


@post("/hook")
async def connect(request: Request):
    if request.get_first_header(b"Authorization") != b"Bearer ada":
        return json({"code": "UNAUTHORIZED"}, 401)
    return json({"code": "OK", "groups": [(await request.json())["request"]["path"].strip("/")]})


@put("/hook")
async def message(request: Request):
    kind = b"text" if request.content_type().startswith(b"text/") else b"binary"
    content = Content(b"application/octet-stream", await request.read() or b"")
    return Response(200, [(b"Ws-Reply", kind)], content)


@delete("/hook")
async def disconnect(request: Request):
    return json({"code": str((await request.json())["code"])})
