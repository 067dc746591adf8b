import json

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="secret",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
)


@csrf_exempt
def hook(request):
    match request.method:
        case "POST":
            if request.headers.get("Authorization") != "Bearer ada":
                return JsonResponse({"code": "UNAUTHORIZED"}, status=401)
            return JsonResponse({"code": "OK", "groups": [json.loads(request.body)["request"]["path"].strip("/")]})
        case "PUT":
            kind = "text" if request.content_type == "text/plain" else "binary"
            return HttpResponse(request.body, headers={"Ws-Reply": kind})
        case "DELETE":
            return JsonResponse({"code": str(json.loads(request.body)["code"])})


urlpatterns = [path("hook", hook)]
app = get_wsgi_application()
asgi = get_asgi_application()
