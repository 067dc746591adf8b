import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.backend_requests import ID, WS_URI
from tests.support.strategies import examples
from wsaas.backend import InvalidAnswer
from wsaas.backend.calls import Calls
from wsaas.http import trace_context

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
OTHER = "q3ZKx0aTkPq1uV9Yb0Wc3XhTz7LmNg"
CALLS = Calls("localhost:8080", None, by_id=False)


def url(client=WS_URI, base="localhost:8080", token="", nodes=(), **options):
    """Return where a push is sent."""
    return Calls(base, token, nodes, **{"by_id": False, **options}).push(client, "hi").url


def test_text_and_bytes_become_text_and_binary_messages():
    text, binary = CALLS.push(WS_URI, "Grüße"), CALLS.push(WS_URI, b"\xff")
    assert (text.method, text.url, text.content) == ("PUT", f"http://{WS_URI}", "Grüße".encode())
    assert text.headers == {"Content-Type": "text/plain; charset=utf-8"}
    assert (binary.headers, binary.content) == ({"Content-Type": "application/octet-stream"}, b"\xff")


def test_text_that_cannot_be_encoded_is_refused():
    for call in (lambda: CALLS.push(WS_URI, "\ud800"), lambda: CALLS.send([([WS_URI], "\ud800")])):
        with pytest.raises(InvalidAnswer, match="cannot be encoded in UTF-8"):
            call()


def test_a_push_can_belong_to_a_trace():
    assert CALLS.push(WS_URI, "hi", TRACE).headers["traceparent"] == TRACE


@pytest.mark.parametrize("traceparent", ["", "00-a-b-01", f"{TRACE}\r\nX: y", f"{TRACE}\n", TRACE.upper()])
def test_a_trace_that_the_gateway_would_ignore_is_refused(traceparent):
    with pytest.raises(ValueError, match="expected 00-<32 hex digits>-<16 hex digits>-01"):
        CALLS.push(WS_URI, "hi", traceparent)


@examples(500)
@given(
    st.one_of(
        st.text(st.characters(max_codepoint=255), max_size=60),
        st.builds(
            lambda *parts: "-".join(parts),
            st.sampled_from(["00", "01", "fe", "ff", "0", "0A"]),
            st.sampled_from(["a" * 32, "0" * 32, "0" * 31 + "1", "a" * 31, "g" * 32]),
            st.sampled_from(["b" * 16, "0" * 16, "1" + "0" * 15, "b" * 17]),
            st.sampled_from(["00", "01", "ff", "f", "01-", "01-more", "01-a,b", "01 ", f"01-{'x' * 256}"]),
        ),
    )
)
def test_the_gateway_agrees_on_every_trace(traceparent):
    try:
        CALLS.push(WS_URI, "hi", traceparent)
    except ValueError:
        is_valid = False
    else:
        is_valid = True
    assert is_valid == (trace_context.parse(traceparent.encode("latin-1"), b"") is not None)


def test_a_message_may_be_in_any_buffer():
    for data in (bytearray(b"\xff"), memoryview(b"\xff")):
        call = CALLS.push(WS_URI, data)
        assert (call.headers, call.content) == ({"Content-Type": "application/octet-stream"}, b"\xff")
        assert isinstance(call.content, bytes)
        assert json.loads(CALLS.send([([ID], data)]).content) == {"to": [ID], "base64": "/w=="}


@pytest.mark.parametrize("data", [None, 3, {"a": 1}, ["a"]])
def test_anything_else_is_no_message(data):
    for call in (
        lambda: CALLS.push(WS_URI, data),
        lambda: CALLS.publish(None, data),
        lambda: CALLS.send([([ID], data)]),
    ):
        with pytest.raises(TypeError, match=r"the message is of type \w+: expected str or bytes"):
            call()


@pytest.mark.parametrize(
    ("base", "client", "expected"),
    [
        ("localhost:8080", ID, f"http://localhost:8080/{ID}"),
        ("localhost:8080/", WS_URI, f"http://localhost:8080/{ID}"),
        ("http://localhost:8080", f"LOCALHOST:8080/{ID}", f"http://LOCALHOST:8080/{ID}"),
        ("https://ws.example.com:443", f"ws.example.com/{ID}", f"https://ws.example.com/{ID}"),
        ("ws.example.com", f"http://ws.example.com:80/{ID}", f"http://ws.example.com:80/{ID}"),
        ("https://ws.example.com/hub", f"https://ws.example.com/hub/{ID}", f"https://ws.example.com/hub/{ID}"),
        ("https://ws.example.com/hub/", f"ws.example.com/hub/{ID}", f"https://ws.example.com/hub/{ID}"),
        ("https://ws.example.com/hub", ID, f"https://ws.example.com/hub/{ID}"),
        ("[::1]:8080", f"[::1]:8080/{ID}", f"http://[::1]:8080/{ID}"),
        (None, WS_URI, f"http://{WS_URI}"),
        (None, f"https://any.example/{ID}", f"https://any.example/{ID}"),
    ],
)
def test_a_ws_uri_is_used_with_and_without_a_scheme(base, client, expected):
    assert url(client, base) == expected


def test_a_ws_uri_may_lead_to_another_node_that_is_known():
    assert url(f"b.example/{ID}", "a.example", nodes=["https://b.example", "c.example"]) == f"https://b.example/{ID}"
    assert url(f"c.example:81/{ID}", None, "secret", nodes=["c.example:81/"]) == f"http://c.example:81/{ID}"


def test_a_ws_uri_may_lead_to_each_port_of_a_range():
    nodes = ["10.0.0.5:8081-8084", "https://10.0.0.5:8443-8444/hub"]
    for port in (8081, 8084):
        assert url(f"10.0.0.5:{port}/{ID}", nodes=nodes) == f"http://10.0.0.5:{port}/{ID}"
    assert url(f"10.0.0.5:8444/hub/{ID}", nodes=nodes) == f"https://10.0.0.5:8444/hub/{ID}"
    for port in (8080, 8085, 8443):
        with pytest.raises(ValueError, match="leads neither"):
            url(f"10.0.0.5:{port}/{ID}", nodes=nodes)


@pytest.mark.parametrize(
    "client",
    [f"evil.example/{ID}", f"https://localhost:8080/{ID}", f"localhost.evil.example:8080/{ID}", f"localhost/{ID}",
     f"localhost:8081/{ID}", f"localhost:8080/hub/{ID}", f"localhost:8080/groups/{ID}", f"http://secure.example/{ID}",
     f"secure.example:80/hub/{ID}", f"https://secure.example/{ID}", f"https://secure.example/hub/groups/{ID}"],
)  # fmt: skip
def test_a_ws_uri_that_leads_to_another_server_port_or_path_is_refused(client):
    with pytest.raises(ValueError, match="leads neither to the base_url nor to one of the nodes"):
        url(client, nodes=["https://secure.example/hub"])


def test_the_scheme_is_that_of_the_port():
    nodes = ["a.example:80", "https://a.example:8443"]
    assert url(f"a.example:8443/{ID}", nodes=nodes) == f"https://a.example:8443/{ID}"
    assert url(f"a.example/{ID}", nodes=nodes) == f"http://a.example/{ID}"
    with pytest.raises(ValueError, match="leads neither"):
        url(f"http://a.example:8443/{ID}", nodes=nodes)


@pytest.mark.parametrize("make", [
    lambda client: CALLS.push(client, "hi"), CALLS.disconnect, CALLS.info, CALLS.exists,
    lambda client: CALLS.join(client, "lobby"), lambda client: CALLS.leave(client, "lobby"),
])  # fmt: skip
@pytest.mark.parametrize(
    "client",
    ["connections", "healthz", "host/groups/lobby", "localhost:8080/groups/lobby", ID[:-1], f"{ID}A", f"{ID}\n"],
)
def test_a_word_that_is_no_id_names_no_client(make, client):
    with pytest.raises(ValueError, match="expected an address such as localhost:8080/<id>"):
        make(client)


def test_a_ws_uri_without_a_base_url_leads_to_no_group():
    with pytest.raises(ValueError, match="may be that of a group: with such a path, pass a base_url"):
        url(f"localhost:8080/hub/groups/{ID}", None)
    assert url(f"localhost:8080/groups/{ID}", "localhost:8080/groups") == f"http://localhost:8080/groups/{ID}"


@pytest.mark.parametrize(
    "client",
    ["", "localhost:8080", f"user@localhost:8080/{ID}", f"{WS_URI}?x", f"{WS_URI}/", f"ftp://localhost/{ID}",
     f"localhost:8080\\/{ID}", f"localhost:8080/a b/{ID}", f"localhost:8080x/{ID}", f"localhost%2eevil.example/{ID}",
     f"localhost:8080/../{ID}", f"localhost:8080/./{ID}", f"localhost:8080/%2E%2e/{ID}", f"localhost:8080/a\x00/{ID}",
     f"localhost:8080/\x7f/{ID}", f"\x00{WS_URI}", f"{WS_URI}\n", f"localhost:8080//{ID}"],
)  # fmt: skip
def test_what_is_no_ws_uri_is_refused(client):
    for base in ("localhost:8080", None):
        with pytest.raises(ValueError, match="expected an address such as localhost:8080/<id>"):
            url(client, base)


def test_on_a_unix_socket_only_the_id_counts():
    calls = Calls("http://localhost", "secret", by_id=True)
    assert calls.push(f"https://any.example/hub/{ID}", "hi").url == f"http://localhost/{ID}"
    for client in ("any.example/", "connections", "host/groups/lobby", f"{ID}/", f"{ID}\x00"):
        with pytest.raises(ValueError, match="expected its ws_uri, or its id"):
            calls.push(client, "hi")


@pytest.mark.parametrize(
    "base", ["", "ftp://a", "http://", "http://user:x@a", "http://a?b", "http://a#b", "a\x00b", "a/..", "a b"]
)
def test_what_is_no_address_is_refused(base):
    with pytest.raises(ValueError, match="expected one such as localhost:8080"):
        url(base=base)


@pytest.mark.parametrize("base", ["a:0", "a:65536", "a:82-81", "a:81-65536"])
def test_a_port_is_one_that_there_can_be(base):
    with pytest.raises(ValueError, match="expected a port of 1 to 65535, or a range such as 8081-8084"):
        url(base=base)


def test_a_base_url_has_one_port():
    with pytest.raises(ValueError, match="expected one port; a range of ports may be in nodes"):
        url(base="localhost:8081-8084")


def test_the_token_goes_with_each_request_and_is_the_first_of_several():
    for token in ("secret", "secret, old"):
        assert Calls("a", token, by_id=False).info(ID).headers == {"Authorization": "Bearer secret"}
    assert Calls("a", "", by_id=False).info(ID).headers == {}


def test_a_token_that_cannot_be_sent_is_refused_without_showing_it():
    with pytest.raises(ValueError, match="visible ASCII") as refused:
        url(token="se cret")
    assert "cret" not in str(refused.value)


def test_a_token_needs_to_know_where_it_may_go():
    with pytest.raises(ValueError, match="with a token, a base_url is needed"):
        url(base=None, token="secret")


def test_a_request_about_no_single_client_needs_a_base_url():
    with pytest.raises(ValueError, match="it needs a base_url"):
        Calls(None, None, by_id=False).publish("lobby", "hi")


def test_a_close_has_a_code_and_a_reason():
    call = CALLS.disconnect(WS_URI, 4000, "tschüß\n")
    assert (call.method, call.url, json.loads(call.content)) == (
        "DELETE",
        f"http://{WS_URI}",
        {"code": 4000, "reason": "tschüß\n"},
    )
    for close in (CALLS.disconnect, CALLS.disconnect_group):
        with pytest.raises(InvalidAnswer, match="the close code is 1001"):
            close(ID, 1001)


@pytest.mark.parametrize(("group", "segment"), [("a~:@!-.", "a~:@!-."), ("..", "%2E%2E"), (".", "%2E")])
def test_any_group_can_be_named_in_a_path(group, segment):
    assert CALLS.join(WS_URI, group).url == f"http://localhost:8080/groups/{segment}/connections/{ID}"
    assert CALLS.leave(ID, group).url == f"http://localhost:8080/groups/{segment}/connections/{ID}"
    assert CALLS.publish(group, "hi").url == f"http://localhost:8080/groups/{segment}"
    assert CALLS.disconnect_group(group).url == f"http://localhost:8080/groups/{segment}"
    assert CALLS.members(group).url == f"http://localhost:8080/groups/{segment}?limit=1000"


def test_a_client_joins_a_group_at_the_gateway_that_has_it():
    calls = Calls(None, None, by_id=False)
    assert calls.join(f"a.example/hub/{ID}", "lobby").url == f"http://a.example/hub/groups/lobby/connections/{ID}"


@pytest.mark.parametrize("name", ["a/b", "", "." * 129])
def test_the_name_of_a_group_is_checked(name):
    with pytest.raises(InvalidAnswer, match="a group is named"):
        CALLS.publish(name, "hi")


def test_a_publish_can_leave_clients_out_and_close_slow_ones():
    call = CALLS.publish("lobby", "hi", [WS_URI, OTHER], close_slow=True)
    assert call.url == f"http://localhost:8080/groups/lobby?except={ID},{OTHER}&slow=close"
    assert CALLS.publish(None, "hi").url == "http://localhost:8080/connections"
    with pytest.raises(TypeError, match="expected a list of them"):
        CALLS.publish("lobby", "hi", WS_URI)


def test_messages_to_several_clients_are_lines():
    call = CALLS.send([([WS_URI, OTHER], "a\nb"), ((ID,), b"\xff")])
    assert (call.method, call.url) == ("POST", "http://localhost:8080/send")
    assert call.headers == {"Content-Type": "application/x-ndjson"}
    assert [json.loads(line) for line in call.content.split(b"\n")] == [
        {"to": [WS_URI, OTHER], "text": "a\nb"},
        {"to": [ID], "base64": "/w=="},
    ]
    with pytest.raises(TypeError, match="expected a list of them"):
        CALLS.send([(WS_URI, "hi")])


def test_a_list_has_pages_and_filters():
    assert CALLS.connections(ending=False).url == "http://localhost:8080/connections?limit=1000"
    before = datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))
    call = CALLS.connections("abc1", 10, before, ending=True)
    query = "after=abc1&limit=10&connected_before=2026-01-31T12:00:00.000Z&state=ending"
    assert call.url == f"http://localhost:8080/connections?{query}"
    with pytest.raises(ValueError, match="no time zone"):
        CALLS.connections(None, 10, before.replace(tzinfo=None), ending=False)
