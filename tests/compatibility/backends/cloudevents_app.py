from cloudevents.core.bindings.http import HTTPMessage, from_binary_event
from flask import Flask, Response, request

app = Flask(__name__)


@app.route("/hook", methods=["POST", "PUT", "DELETE"])
def hook():
    event = from_binary_event(HTTPMessage(dict(request.headers), request.get_data()))
    match event.get_type():
        case "wsaas.connect":
            if request.headers.get("Authorization") != "Bearer ada":
                return {"code": "UNAUTHORIZED"}, 401
            return {"code": "OK", "groups": [event.get_data()["request"]["path"].strip("/")]}
        case "wsaas.message":
            kind = "text" if event.get_datacontenttype().startswith("text/") else "binary"
            return Response(event.get_data(), headers={"Ws-Reply": kind})
        case "wsaas.disconnect":
            return {"code": str(event.get_data()["code"])}
