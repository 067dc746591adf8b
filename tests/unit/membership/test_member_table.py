"""What a process knows of the others."""

from typing import Any

import pytest

from tests.support.members import make_member
from wsaas.membership import member_table
from wsaas.membership.bucket import Entry
from wsaas.membership.member_table import MemberTable

OWN, A, B = "oooooooo", "aaaaaaaa", "bbbbbbbb"
LEASE = make_member("any", clients=3, is_listening=True).to_lease()


class Rig:
    """A table and the changes that it reports."""

    def __init__(self) -> None:
        self.table = MemberTable(OWN)
        self.changes = list[list[str]]()
        self.table.on_members = lambda members: self.changes.append(sorted(members))
        self.now = 100.0

    def set(self, key: str, value: bytes | None) -> None:
        self.table.set_entry(Entry(key, value, 1), self.now)

    def join(self, prefix: str) -> None:
        self.set(f"lease.{prefix}", LEASE)
        self.set(f"member.{prefix}", make_member(prefix).to_entry())

    def set_all(self, since: float = 1000.0, **entries: bytes) -> None:
        found = {key.replace("_", "."): value for key, value in entries.items()}
        self.table.set_all({key: Entry(key, value, 1) for key, value in found.items()}, self.now, since)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_process_with_a_lease_is_a_member(rig):
    rig.join(A)
    assert rig.changes == [[A]]
    member = rig.table.members[A]
    assert (member.clients, member.is_listening, member.has_lease, member.renewed_at) == (3, True, True, 100.0)
    assert rig.table.orphans() == []


def test_this_process_is_no_other(rig):
    rig.join(OWN)
    rig.set(f"lease.{OWN}", None)
    assert rig.table.members == {}
    assert rig.table.orphans() == []
    assert rig.changes == []


def test_renewals_are_no_change_of_the_members(rig):
    rig.join(A)
    rig.now = 103.0
    rig.set(f"lease.{A}", LEASE)
    assert rig.table.members[A].renewed_at == 103.0
    assert rig.changes == [[A]]


def test_a_member_without_a_lease_is_an_orphan_but_not_dead(rig):
    rig.join(A)
    rig.set(f"lease.{A}", None)
    assert rig.table.orphans() == [A]
    assert not rig.table.members[A].has_lease
    # NATS was in trouble.
    rig.set(f"lease.{A}", LEASE)
    assert rig.table.orphans() == []
    assert rig.table.members[A].has_lease


def test_a_member_whose_lease_was_never_seen_is_an_orphan(rig):
    rig.set(f"member.{A}", make_member(A).to_entry())
    assert rig.table.orphans() == [A]


def test_a_member_that_was_claimed_is_dead(rig):
    rig.join(A)
    rig.set(f"lease.{A}", None)
    rig.set(f"claim.{A}", B.encode())
    assert rig.table.members == {}
    assert rig.table.orphans() == []
    # The process that claimed it is gone. Another one may go on.
    rig.set(f"claim.{A}", None)
    assert rig.table.members == {}
    assert rig.table.orphans() == [A]
    rig.set(f"member.{A}", None)
    assert rig.table.orphans() == []
    assert rig.changes == [[A], []]


def test_a_claim_that_was_given_back_as_the_member_lives_is_forgotten(rig):
    rig.join(A)
    rig.set(f"claim.{A}", B.encode())
    rig.set(f"lease.{A}", LEASE)
    assert rig.table.members == {}
    rig.set(f"claim.{A}", None)
    rig.set(f"lease.{A}", LEASE)
    assert set(rig.table.members) == {A}


def test_a_member_that_has_left_is_gone(rig):
    rig.join(A)
    rig.set(f"member.{A}", None)
    rig.set(f"lease.{A}", None)
    assert rig.table.members == {}
    assert rig.table.orphans() == []


def test_a_claim_of_this_process_is_reported_once(rig):
    claims = list[bool]()
    rig.table.on_own_claim = lambda: claims.append(True)
    for _ in range(2):
        rig.set(f"claim.{OWN}", B.encode())
    assert claims == [True]


def test_a_member_may_introduce_itself(rig):
    rig.table.introduce(make_member(A).to_entry(), 50.0)
    rig.table.introduce(make_member(A).to_entry(), 51.0)
    assert rig.changes == [[A]]
    assert rig.table.members[A].has_lease
    assert rig.table.members[A].renewed_at == 50.0
    with pytest.raises(ValueError, match=r".*"):
        rig.table.introduce(b"{}", 52.0)


def test_what_is_missing_in_all_entries_was_removed(rig):
    rig.join(A)
    rig.join(B)
    rig.set(f"claim.{OWN}", b"x")
    rig.set_all(member_aaaaaaaa=make_member(A).to_entry())
    assert set(rig.table.members) == {A}
    assert rig.table.orphans() == [A]
    rig.set_all(member_aaaaaaaa=make_member(A).to_entry(), claim_aaaaaaaa=b"x", lease_aaaaaaaa=LEASE)
    assert rig.table.members == {}


def test_all_entries_may_be_in_any_order(rig):
    rig.set_all(lease_aaaaaaaa=LEASE, member_aaaaaaaa=make_member(A).to_entry(), version=b"1")
    assert rig.table.members[A].has_lease


def test_who_introduced_itself_meanwhile_is_not_missing(rig):
    rig.table.introduce(make_member(A).to_entry(), 50.0)
    rig.set_all(since=49.0)
    assert rig.table.members[A].has_lease
    rig.set_all(since=51.0)
    assert rig.table.members == {}


def test_a_lease_that_was_not_renewed_for_long_is_over(rig):
    rig.join(A)
    rig.table.expire(99.0)
    assert rig.table.orphans() == []
    rig.table.expire(101.0)
    assert rig.table.orphans() == [A]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (f"member.{A}", b"?"),
        (f"member.{A}", make_member(B).to_entry()),
    ],
)
def test_a_malformed_entry_is_ignored(rig, caplog, key, value):
    rig.set(key, value)
    assert rig.table.members == {}
    assert f"ignored the entry {key} in NATS" in caplog.text


def test_a_malformed_lease_is_ignored(rig, caplog):
    rig.join(A)
    rig.set(f"lease.{A}", b"?")
    assert rig.table.members[A].clients == 3
    assert f"ignored the entry lease.{A} in NATS" in caplog.text


def test_there_is_a_maximum_of_members(rig, caplog, monkeypatch: Any):
    monkeypatch.setattr(member_table, "MAX_MEMBERS", 1)
    rig.join(A)
    rig.set(f"lease.{B}", LEASE)
    rig.set("lease.cccccccc", LEASE)
    rig.set(f"member.{B}", make_member(B).to_entry())
    assert set(rig.table.members) == {A}
    assert "there are 1 members already" in caplog.text
    rig.set(f"lease.{B}", None)


def test_other_keys_are_ignored(rig):
    rig.set("version", b"1")
    assert rig.changes == []
