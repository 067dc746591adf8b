from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["rest_framework"],
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
    ROOT_URLCONF=__name__,
    SECRET_KEY="secret",
)
app = get_wsgi_application()

from rest_framework.response import Response  # noqa: E402 - needs the settings
from rest_framework.views import APIView  # noqa: E402 - needs the settings


class Hook(APIView):
    def post(self, request):
        if request.headers.get("Authorization") != "Bearer ada":
            return Response({"code": "UNAUTHORIZED"}, status=401)
        return Response({"code": "OK", "groups": [request.data["request"]["path"].strip("/")]})

    def put(self, request):
        kind = "text" if request.content_type.startswith("text/") else "binary"
        # Not `request.data`: its parsers do not take these types.
        return HttpResponse(request.body, headers={"Ws-Reply": kind})

    def delete(self, request):
        return Response({"code": str(request.data["code"])})


urlpatterns = [path("hook", Hook.as_view())]
