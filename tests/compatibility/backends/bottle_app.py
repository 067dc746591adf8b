from bottle import Bottle, HTTPResponse, request

app = Bottle()


@app.post("/hook")
def connect():
    if request.get_header("Authorization") != "Bearer ada":
        return HTTPResponse({"code": "UNAUTHORIZED"}, 401)
    return {"code": "OK", "groups": [request.json["request"]["path"].strip("/")]}


@app.put("/hook")
def message():
    kind = "text" if request.content_type.startswith("text/") else "binary"
    return HTTPResponse(request.body.read(), headers={"Ws-Reply": kind})


@app.delete("/hook")
def disconnect():
    return {"code": str(request.json["code"])}
