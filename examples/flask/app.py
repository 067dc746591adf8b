"""A backend in Flask. It is started by:

wsaas dev --header 'Authorization: Bearer ada-token' -- flask run --port {port}
"""

import os

from flask import Flask, request

from wsaas import backend

USERS = {"Bearer ada-token": "ada", "Bearer ben-token": "ben"}  # in place of your users and sessions
UNAUTHORIZED = backend.reject("UNAUTHORIZED", status=401)

app = Flask(__name__)
app.register_error_handler(backend.WebhookVerificationError, lambda _: UNAUTHORIZED)
app.register_error_handler(ValueError, lambda error: backend.bad_request(str(error)))  # such as InvalidEvent
app.register_error_handler(backend.Gone, lambda error: ({"code": error.code}, error.status))
gateway = backend.Client(os.environ["WS_HOSTNAME"], token=os.environ["CONTROL_TOKEN"])


@app.route("/websocket", methods=["POST", "PUT", "DELETE"])
def websocket():
    body = request.get_data()
    backend.verify(request.headers, body, os.environ["API_SECRET"])
    match backend.parse(request.method, request.headers, body):
        case backend.Connect(authorization=token) if token in USERS:
            return backend.accept(context=USERS[token], groups=["lobby"])
        case backend.Connect():
            return UNAUTHORIZED
        case backend.Message(data="bye"):
            return backend.ok(close=(4000, "bye"))
        case backend.Message(data=data):
            return backend.ok(data)
        case backend.Disconnect(context=user, code=code):
            print(f"{user} left: {code}")
            return backend.ok()


@app.post("/notify")
def notify():
    if request.headers.get("Authorization") not in USERS:
        return UNAUTHORIZED
    if "to" in request.args:
        gateway.push(request.args["to"], request.get_data(as_text=True))
    else:
        gateway.publish("lobby", request.get_data(as_text=True))
    return {"code": "OK"}
