from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class Hook(HTTPEndpoint):
    async def post(self, request):
        if request.headers.get("Authorization") != "Bearer ada":
            return JSONResponse({"code": "UNAUTHORIZED"}, 401)
        return JSONResponse({"code": "OK", "groups": [(await request.json())["request"]["path"].strip("/")]})

    async def put(self, request):
        kind = "text" if request.headers["Content-Type"].startswith("text/") else "binary"
        return Response(await request.body(), headers={"Ws-Reply": kind})

    async def delete(self, request):
        return JSONResponse({"code": str((await request.json())["code"])})


app = Starlette(routes=[Route("/hook", Hook)])
