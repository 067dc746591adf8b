"""A member, and how it is written in NATS."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.members import make_member
from tests.support.strategies import examples
from wsaas.membership.member import from_entry


def test_an_entry_contains_what_does_not_change():
    member = make_member("aaaaaaaa", worker=1, workers=2, clients=7, is_listening=True, renewed_at=5.0)
    assert from_entry(member.to_entry()) == make_member("aaaaaaaa", worker=1, workers=2)


def test_a_lease_contains_what_changes():
    sender, receiver = make_member("a", clients=7, is_listening=True), make_member("a", has_lease=False)
    receiver.renewed(sender.to_lease(), 9.0)
    assert (receiver.clients, receiver.is_listening, receiver.has_lease, receiver.renewed_at) == (7, True, True, 9.0)


def test_a_later_version_may_add_something():
    entry = {**orjson.loads(make_member("a").to_entry()), "more": 1}
    assert from_entry(orjson.dumps(entry)) == make_member("a")


@pytest.mark.parametrize("data", [b"", b"x", b"1", b"[]", b"{}", b'{"prefix": "a"}', b"\xff"])
def test_other_data_is_no_member(data):
    with pytest.raises(ValueError, match=r".*"):
        from_entry(data)


def test_a_number_has_to_be_one():
    entry = {**orjson.loads(make_member("a").to_entry()), "worker": None}
    with pytest.raises(ValueError, match="NoneType"):
        from_entry(orjson.dumps(entry))


@pytest.mark.parametrize("data", [b"", b"x", b"1", b'{"clients": "x"}', b'{"clients": null}'])
def test_other_data_is_no_lease(data):
    with pytest.raises(ValueError, match=r".*"):
        make_member("a").renewed(data, 0)


@examples(300)
@given(st.one_of(st.binary(max_size=30), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr)))
def test_any_data_is_a_member_or_a_value_error(data):
    try:
        from_entry(data if isinstance(data, bytes) else data.encode())
    except ValueError:
        return
    raise AssertionError
