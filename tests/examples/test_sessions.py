"""The code of docs/guides/browser-authentication.md that makes the session of a framework of a token."""

import re
import sys
from pathlib import Path

import pytest

from tests.support.examples import ROOT, run

PAGE = (ROOT / "docs" / "guides" / "browser-authentication.md").read_text()

DJANGO = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="secret",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
%s
from types import SimpleNamespace
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.core.management import call_command

call_command("migrate", verbosity=0)
ada = User.objects.create_user("ada", password="lovelace")
page = HttpRequest()
page.session = SessionStore()
login(page, ada)
page.session.save()
cookie = f"Bearer {page.session.session_key}"
assert user_of(SimpleNamespace(authorization=cookie)) == ada
for wrong in (None, "Bearer ", "Bearer guessed", cookie[:-1]):
    assert not user_of(SimpleNamespace(authorization=wrong)).is_authenticated, wrong
ada.set_password("another")
ada.save()
assert not user_of(SimpleNamespace(authorization=cookie)).is_authenticated
"""

FLASK = """
from types import SimpleNamespace
from flask import Flask, session

app = Flask("app")
app.secret_key = "secret"
%s
@app.post("/login")
def log_in():
    session["user"] = "ada"
    return {}

client = app.test_client()
client.post("/login")
cookie = f"Bearer {client.get_cookie('session').value}"
assert session_of(SimpleNamespace(authorization=cookie)) == {"user": "ada"}
for wrong in (None, "Bearer ", "Bearer guessed", cookie[:-3]):
    assert session_of(SimpleNamespace(authorization=wrong)) == {}, wrong
"""


@pytest.mark.parametrize(("module", "name", "program"), [("django", "user_of", DJANGO), ("flask", "session_of", FLASK)])
def test_a_token_becomes_a_session_again(tmp_path: Path, module: str, name: str, program: str) -> None:
    pytest.importorskip(module)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (source,) = (each for each in blocks if f"def {name}(event: backend.Connect)" in each)
    (tmp_path / "program.py").write_text(program % source)
    run(sys.executable, "program.py", cwd=tmp_path)
