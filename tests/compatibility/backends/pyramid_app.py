from pyramid.config import Configurator
from pyramid.response import Response
from pyramid.view import view_config


@view_config(route_name="hook", request_method="POST", renderer="json")
def connect(request):
    if request.headers.get("Authorization") != "Bearer ada":
        request.response.status = 401
        return {"code": "UNAUTHORIZED"}
    return {"code": "OK", "groups": [request.json["request"]["path"].strip("/")]}


@view_config(route_name="hook", request_method="PUT")
def message(request):
    kind = "text" if request.content_type == "text/plain" else "binary"
    return Response(request.body, headers={"Ws-Reply": kind})


@view_config(route_name="hook", request_method="DELETE", renderer="json")
def disconnect(request):
    return {"code": str(request.json["code"])}


with Configurator() as config:
    config.add_route("hook", "/hook")
    config.scan()
    app = config.make_wsgi_app()
