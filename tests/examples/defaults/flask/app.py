"""Flask with its defaults. It is started by:

wsaas dev --no-check -- flask run --port {port}
"""

from flask import Flask, request

app = Flask(__name__)


@app.route("/websocket", methods=["POST", "PUT", "DELETE"])
def websocket():
    if request.method == "PUT":
        return str(request.get_json()["n"] + 1), {"Ws-Reply": "text"}
    return {"code": "OK"}


@app.put("/raw")
def raw():
    return str(len(request.get_data()))


@app.put("/parsed-first")
def parsed_first():
    request.get_json()
    return request.get_data()


@app.put("/stream-first")
def stream_first():
    request.stream.read()
    return request.get_data()


@app.post("/slash/")
def slash():
    return "found"


@app.route("/without-methods")
def without_methods():
    return "found"
