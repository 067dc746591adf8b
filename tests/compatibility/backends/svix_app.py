import os

from flask import Flask, Response, request
from svix.webhooks import Webhook

app = Flask(__name__)
webhook = Webhook(os.environ["API_SECRET"])


@app.before_request
def verify():
    # It can only verify text: messages that are binary are verified by `wsaas.backend.verify`.
    webhook.verify(request.get_data(), dict(request.headers))


@app.post("/hook")
def connect():
    if request.headers.get("Authorization") != "Bearer ada":
        return {"code": "UNAUTHORIZED"}, 401
    return {"code": "OK", "groups": [request.json["request"]["path"].strip("/")]}


@app.put("/hook")
def message():
    return Response(request.get_data(), headers={"Ws-Reply": "text"})


@app.delete("/hook")
def disconnect():
    return {"code": str(request.json["code"])}
