import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.delivery import entry_codec
from wsaas.delivery.entry_codec import EntryCodec, UnreadableEntry
from wsaas.delivery.journal_file import Entry
from wsaas.http.trace_context import TraceContext
from wsaas.log.throttle import throttle

PREFIX_LENGTH = 8
SECRET = b"a secret of sufficient length"
ID = "prefix__0123456789012345678901"


def make_codec(*secrets):
    return EntryCodec(secrets, PREFIX_LENGTH)


def make_entry(authorization=b"Bearer \xe9\x00", connection_id=ID, **values):
    return Entry(connection_id, f"node/{connection_id}", authorization, "cart=7", 1_700_000_000.25, **values)


@pytest.fixture(autouse=True)
def no_throttled_lines(monkeypatch):
    lines = []
    monkeypatch.setattr(throttle, "warning", lambda _cause, text, *args: lines.append(text % args))
    return lines


@given(
    st.none() | st.binary(max_size=50),
    st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=10),
    st.floats(0, 2e9),
    st.none() | st.tuples(st.floats(0, 2e9), st.text(max_size=20)),
    st.none() | st.just(TraceContext(f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1")),
)
@examples(200)
def test_an_entry_is_decoded_as_it_was_encoded(authorization, context, at, ended, trace):
    ended_at, body = ended or (None, None)
    entry = Entry(ID, "node/a", authorization, context, at, ended_at, body if body is None else body.encode())
    codec = make_codec(SECRET)
    entry.is_replicated, entry.trace = True, trace
    assert make_codec(SECRET).decode(ID, codec.encode(entry)) == entry


def test_the_authorization_is_encrypted_each_time_anew():
    codec = make_codec(SECRET)
    first, second = codec.encode(make_entry(b"Bearer open-sesame")), codec.encode(make_entry(b"Bearer open-sesame"))
    assert first != second
    assert b"sesame" not in first
    assert len(orjson.loads(first)["authorization"]) == len(orjson.loads(second)["authorization"])


def test_without_a_secret_the_authorization_is_not_stored():
    value = make_codec().encode(make_entry())
    assert "authorization" not in orjson.loads(value)
    assert make_codec(SECRET).decode(ID, value).authorization is None


@pytest.mark.parametrize(
    ("secrets", "why"),
    [((), "CLUSTER_SECRET is not set"), ((b"another one",), "it was encrypted with another CLUSTER_SECRET")],
)
def test_an_authorization_that_cannot_be_decrypted_is_left_out_with_a_warning(secrets, why, no_throttled_lines):
    entry = make_codec(*secrets).decode(ID, make_codec(SECRET).encode(make_entry()))
    assert (entry.authorization, entry.context) == (None, "cart=7")
    assert no_throttled_lines == [f"the DELETE of an adopted connection goes without Authorization: {why}"]


def test_the_value_of_one_connection_cannot_be_used_for_another():
    value = make_codec(SECRET).encode(make_entry())
    assert make_codec(SECRET).decode(ID[:-1] + "x", value).authorization is None
    assert make_codec(SECRET).decode("P" + ID[1:], value).authorization is None


def test_any_of_several_secrets_decrypts_and_the_first_one_encrypts():
    old, both, new = make_codec(b"old"), make_codec(b"new", b"old"), make_codec(b"new")
    entry = make_entry()
    assert both.decode(ID, old.encode(entry)).authorization == entry.authorization
    assert new.decode(ID, both.encode(entry)).authorization == entry.authorization


def test_secrets_can_be_replaced():
    codec, entry = make_codec(b"old"), make_entry()
    codec.encode(entry)
    codec.replace((b"new",))
    assert make_codec(b"new").decode(ID, codec.encode(entry)).authorization == entry.authorization


def test_the_keys_of_a_limited_number_of_processes_are_kept():
    codec = make_codec(SECRET)
    for number in range(entry_codec.MAX_PROCESSES + 1):
        codec.encode(make_entry(connection_id=f"{number:08}rest"))
    assert len(codec._ciphers) == 1


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"ws_uri":"a","connected_at":1,"authorization":7}',
        b'{"ws_uri":"a","connected_at":1,"authorization":"AAA"}',
        b'{"ws_uri":"a","connected_at":1,"disconnect":7}',
        b'{"ws_uri":"a","connected_at":1,"trace":7}',
    ],
)
def test_a_value_that_is_no_entry_is_an_error(value):
    with pytest.raises(UnreadableEntry):
        make_codec(SECRET).decode(ID, value)


def test_a_value_of_an_older_node_has_no_trace():
    assert make_codec().decode(ID, b'{"ws_uri":"a","connected_at":1}').trace is None


def test_a_trace_that_cannot_be_read_is_left_out():
    assert make_codec().decode(ID, b'{"ws_uri":"a","connected_at":1,"trace":"x"}').trace is None


def test_a_truncated_authorization_is_left_out():
    value = b'{"ws_uri":"a","connected_at":1,"authorization":"AAAA"}'
    with pytest.raises(UnreadableEntry):
        make_codec(SECRET).decode(ID, value)
