import sys

from aiohttp import web

routes = web.RouteTableDef()


@routes.post("/hook")
async def connect(request):
    if request.headers.get("Authorization") != "Bearer ada":
        return web.json_response({"code": "UNAUTHORIZED"}, status=401)
    return web.json_response({"code": "OK", "groups": [(await request.json())["request"]["path"].strip("/")]})


@routes.put("/hook")
async def message(request):
    kind = "text" if request.content_type == "text/plain" else "binary"
    return web.Response(body=await request.read(), headers={"Ws-Reply": kind})


@routes.delete("/hook")
async def disconnect(request):
    return web.json_response({"code": str((await request.json())["code"])})


app = web.Application()
app.add_routes(routes)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
