from flask import Flask, Response, request

app = Flask(__name__)


@app.post("/hook")
def connect():
    if request.headers.get("Authorization") != "Bearer ada":
        return {"code": "UNAUTHORIZED"}, 401
    return {"code": "OK", "groups": [request.json["request"]["path"].strip("/")]}


@app.put("/hook")
def message():
    kind = "text" if request.mimetype == "text/plain" else "binary"
    return Response(request.get_data(), headers={"Ws-Reply": kind})


@app.delete("/hook")
def disconnect():
    return {"code": str(request.json["code"])}
