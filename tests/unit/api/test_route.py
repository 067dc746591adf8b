import pytest

from wsaas.api.route import Route
from wsaas.errors import MethodNotAllowed
from wsaas.http.serialize import OK


def handle(_request, *_names):
    return OK


def handle_put(_request, *_names):
    return OK


def test_a_route_gives_the_names_in_a_path_that_matches_as_a_whole():
    route = Route(rb"/groups/([a-z]+)/connections/([0-9]+)", {b"PUT": handle})
    assert route.match(b"/groups/room/connections/7") == ("room", "7")
    assert route.match(b"/groups/room/connections/7/") is None
    assert Route(rb"/healthz", {b"GET": handle}).match(b"/healthz") == ()


def test_a_head_is_handled_as_a_get():
    route = Route(rb"/", {b"PUT": handle_put, b"GET": handle})
    assert route.handler(b"HEAD") is route.handler(b"GET") is handle


@pytest.mark.parametrize(
    ("methods", "method", "allow"),
    [([b"PUT", b"GET"], b"POST", "PUT, GET, HEAD"), ([b"PUT"], b"GET", "PUT"), ([b"PUT"], b"HEAD", "PUT")],
)
def test_other_methods_are_refused_with_a_list_of_the_supported_ones(methods, method, allow):
    route = Route(rb"/", dict.fromkeys(methods, handle))
    with pytest.raises(MethodNotAllowed) as refused:
        route.handler(method)
    assert refused.value.headers == (("Allow", allow),)


def test_no_body_is_needed_unless_a_route_says_so():
    assert Route(rb"/", {b"PUT": handle}).body_limit(None) == 0
