"""A backend in Django. It is started by:

wsaas dev --header 'Authorization: Bearer ada-token' -- python manage.py runserver --noreload {port}
"""

import os

from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from wsaas import backend

USERS = {"Bearer ada-token": "ada", "Bearer ben-token": "ben"}  # in place of your users and sessions
UNAUTHORIZED = backend.reject("UNAUTHORIZED", status=401)
gateway = backend.Client(os.environ["WS_HOSTNAME"], token=os.environ["CONTROL_TOKEN"])


@csrf_exempt
def websocket(request):
    try:
        backend.verify(request.headers, request.body, os.environ["API_SECRET"])
        answer = handle(backend.parse(request.method, request.headers, request.body))
    except backend.WebhookVerificationError:
        answer = UNAUTHORIZED
    except backend.InvalidEvent as error:
        answer = backend.bad_request(str(error))
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)


def handle(event):
    match event:
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


@csrf_exempt
@require_POST
def notify(request):
    if request.headers.get("Authorization") not in USERS:
        return HttpResponse(status=401)
    ws_uri = request.GET.get("to")
    try:
        text = request.body.decode()
        gateway.push(ws_uri, text) if ws_uri else gateway.publish("lobby", text)
    except backend.Gone:
        return HttpResponse(status=410)
    except ValueError as error:
        return HttpResponse(str(error), status=400)
    return HttpResponse("sent")
