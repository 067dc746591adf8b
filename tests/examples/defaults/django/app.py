"""Django and Django REST framework with their defaults, and Django's compression. It is started by:

wsaas dev --no-check -- python app.py runserver --noreload {port}
"""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    ALLOWED_HOSTS=["localhost"],
    DEBUG="DEBUG" in os.environ,
    MIDDLEWARE=[
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.urandom(32),
)
application = get_wsgi_application()

from rest_framework.response import Response  # noqa: E402 - after the settings
from rest_framework.views import APIView  # noqa: E402 - after the settings


class WebSocketView(APIView):
    def post(self, request):
        return Response({"code": "OK"})

    def put(self, request):
        return HttpResponse(str(request.data["n"] + 1), headers={"Ws-Reply": "text"})

    def delete(self, request):
        return Response({"code": "OK"})


class ParsedFirstView(APIView):
    def put(self, request):
        assert request.data
        return HttpResponse(request.body)


class RawFirstView(APIView):
    def put(self, request):
        raw = request.body
        assert request.data
        return HttpResponse(raw)


@csrf_exempt
def raw(request):
    return HttpResponse(str(len(request.body)))


@csrf_exempt
def slash(request):
    return HttpResponse("found")


def with_csrf(request):
    return HttpResponse("found")


def long(request):
    return HttpResponse("x" * 1000)


urlpatterns = [
    path("websocket", WebSocketView.as_view()),
    path("parsed-first", ParsedFirstView.as_view()),
    path("raw-first", RawFirstView.as_view()),
    path("raw", raw),
    path("slash/", slash),
    path("with-csrf", with_csrf),
    path("long", long),
]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
