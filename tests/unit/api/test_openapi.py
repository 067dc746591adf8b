"""`GET /openapi.json`, which describes the gateway that serves it."""

import pytest

from tests.support.api_rig import Rig
from wsaas import __version__

PATH = "/openapi.json"


@pytest.mark.parametrize("path", [PATH, "/ws" + PATH])
def test_the_document_names_the_gateway(path):
    answer = Rig(ws_hostname="https://node.example/ws").ask("GET", path)
    assert answer.status == 200
    assert answer.json["info"]["version"] == __version__
    assert [each["url"] for each in answer.json["servers"]] == ["https://node.example/ws"]


@pytest.mark.parametrize(("values", "scheme"), [({}, "http"), ({"tls_cert": "/a", "tls_key": "/b"}, "https")])
def test_a_ws_hostname_without_a_scheme_has_that_of_the_listener(values, scheme):
    assert Rig(ws_hostname="node:81", **values).ask("GET", PATH).json["servers"][0]["url"] == f"{scheme}://node:81"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_caller_that_has_the_document_gets_304(method):
    rig = Rig()
    tag = rig.ask("HEAD", PATH).headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        answer = rig.ask_for_head(method, PATH, f"If-None-Match: {known}")
        assert (answer.status, answer.phrase, answer.headers["ETag"]) == (304, "Not Modified", tag)
        assert answer.headers["Cache-Control"] == "no-cache"
    for other in ('"other"', tag.strip('"'), ""):
        assert rig.ask(method, PATH, f"If-None-Match: {other}").status == 200


def test_the_tag_is_that_of_the_content():
    tags = {Rig(ws_hostname=name).ask("HEAD", PATH).headers["ETag"] for name in ("a", "b", "a")}
    assert len(tags) == 2


def test_only_those_who_may_use_the_api_may_read_the_document():
    guarded = Rig(control_token="s3cret")
    assert guarded.ask("GET", PATH).said == (401, "UNAUTHORIZED")
    assert guarded.ask("GET", PATH, "Authorization: Bearer s3cret").status == 200
    assert Rig().ask("GET", PATH, "Origin: https://page.example").said == (403, "FORBIDDEN")
