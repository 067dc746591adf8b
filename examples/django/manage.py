"""What every project of Django has: settings, URLs, an application, and the command. The example is in views.py."""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["localhost"],  # the host in API_URI
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.urandom(32),
)
application = get_wsgi_application()

from views import notify, websocket  # noqa: E402 - after the settings

urlpatterns = [path("websocket", websocket), path("notify", notify)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
