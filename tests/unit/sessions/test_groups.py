"""Tests of the membership of groups."""

from collections import defaultdict
from dataclasses import dataclass, field
from unittest.mock import patch

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wsaas.errors import TooManyGroups
from wsaas.grammar import is_group_name
from wsaas.sessions import group
from wsaas.sessions.group import SentCounter
from wsaas.sessions.groups import Groups
from wsaas.sessions.ordered_table import CHUNK


class Uncounted(SentCounter):
    """Counts nothing: nothing is published here."""

    def count_sent(self, messages, size):
        raise AssertionError(messages, size)


@dataclass(frozen=True)
class Client:
    """A client that can be a member."""

    id: str
    info: SentCounter = field(default_factory=Uncounted, compare=False)


ADA, BOB = Client("ada"), Client("bob")


def make_groups(limit) -> Groups[Client]:
    return Groups(limit)


def test_a_group_has_its_members_in_the_order_in_which_they_joined():
    groups = make_groups(8)
    groups.join(BOB, "room")
    groups.join(ADA, "room")
    assert list(groups.group("room")) == [BOB, ADA]


def test_a_group_without_members_is_empty():
    assert list(make_groups(8).group("room")) == []


def test_a_client_has_its_groups_in_the_order_in_which_it_joined_them():
    groups = make_groups(8)
    groups.join(ADA, "b")
    groups.join(ADA, "a")
    assert groups.names("ada") == ["b", "a"]
    assert groups.names("bob") == []


def test_joining_twice_changes_nothing():
    groups = make_groups(1)
    groups.join(ADA, "room")
    groups.join(ADA, "room")
    assert list(groups.group("room")) == [ADA]
    assert groups.names("ada") == ["room"]


def test_a_client_leaves_one_group_and_stays_in_others():
    groups = make_groups(8)
    groups.join(ADA, "a")
    groups.join(ADA, "b")
    groups.leave("ada", "a")
    assert list(groups.group("a")) == []
    assert groups.names("ada") == ["b"]


@pytest.mark.parametrize("name", ["a", "other"])
def test_leaving_a_group_without_being_a_member_changes_nothing(name):
    groups = make_groups(8)
    groups.join(ADA, "a")
    groups.leave("bob", name)
    groups.leave("ada", "other")
    assert list(groups.group("a")) == [ADA]


def test_a_client_that_disconnects_leaves_all_its_groups():
    groups = make_groups(8)
    for name in ("a", "b"):
        groups.join(ADA, name)
        groups.join(BOB, name)
    groups.leave_all("ada")
    groups.leave_all("ada")
    assert groups.names("ada") == []
    assert list(groups.group("a")) == list(groups.group("b")) == [BOB]


def test_a_client_joins_no_more_groups_than_the_limit():
    groups = make_groups(2)
    groups.join(ADA, "a")
    groups.join(ADA, "b")
    with pytest.raises(TooManyGroups, match="2 groups already"):
        groups.join(ADA, "c")
    assert groups.names("ada") == ["a", "b"]
    assert list(groups.group("c")) == []
    only_one = make_groups(1)
    only_one.join(ADA, "a")
    with pytest.raises(TooManyGroups, match="1 group already"):
        only_one.join(ADA, "b")


def test_a_client_at_the_limit_may_join_another_group_once_it_left_one():
    groups = make_groups(1)
    groups.join(ADA, "a")
    groups.leave("ada", "a")
    groups.join(ADA, "b")
    assert groups.names("ada") == ["b"]


@pytest.mark.parametrize("name", ["a", "a" * 128, "Room-1.x_y~z:@!", "room:42"])
def test_a_group_name_has_letters_digits_and_some_marks(name):
    assert is_group_name(name)


@pytest.mark.parametrize("name", ["", "a" * 129, "a b", "a/b", "a,b", "é", "a\n", "%41"])
def test_other_text_is_no_group_name(name):
    assert not is_group_name(name)


def test_a_large_group_has_its_members_in_the_order_in_which_they_joined():
    groups = make_groups(8)
    clients = [Client(f"client {number}") for number in range(3 * CHUNK)]
    for client in clients:
        groups.join(client, "room")
    for client in clients[::3]:
        groups.leave(client.id, "room")
    groups.join(clients[0], "room")
    expected = [client for number, client in enumerate(clients) if number % 3] + clients[:1]
    room = groups.group("room")
    assert (len(room), list(room)) == (len(expected), expected)
    assert list(room.after(room.number(expected[400]))) == expected[401:]
    for client in clients:
        groups.leave_all(client.id)
    assert (len(groups.group("room")), list(groups.group("room"))) == (0, [])


CLIENTS = st.sampled_from([Client(name) for name in "abcdef"])
NAMES = st.sampled_from(["red", "green", "blue", "black"])


class GroupMachine(RuleBasedStateMachine):
    """Compares `Groups` with one set for each group."""

    LIMIT = 3

    def __init__(self):
        super().__init__()
        self.chunk = patch.object(group, "CHUNK", 2)
        self.chunk.start()
        self.groups = make_groups(self.LIMIT)
        self.model: defaultdict[str, dict[Client, None]] = defaultdict(dict)

    def teardown(self):
        self.chunk.stop()

    @rule(client=CLIENTS, name=NAMES)
    def join(self, client, name):
        others = [each for each, members in self.model.items() if client in members and each != name]
        if len(others) >= self.LIMIT:
            with pytest.raises(TooManyGroups):
                self.groups.join(client, name)
        else:
            self.groups.join(client, name)
            self.model[name].setdefault(client)

    @rule(client=CLIENTS, name=NAMES)
    def leave(self, client, name):
        self.groups.leave(client.id, name)
        self.model[name].pop(client, None)

    @rule(client=CLIENTS)
    def disconnect(self, client):
        self.groups.leave_all(client.id)
        for members in self.model.values():
            members.pop(client, None)

    @invariant()
    def members_agree(self):
        for name, members in self.model.items():
            found, expected = self.groups.group(name), list(members)
            assert (len(found), list(found)) == (len(expected), expected)
            for place, member in enumerate(expected, 1):
                assert list(found.after(found.number(member))) == expected[place:]

    @invariant()
    def names_agree(self):
        for client in (Client(name) for name in "abcdef"):
            assert set(self.groups.names(client.id)) == {
                name for name, members in self.model.items() if client in members
            }


TestGroupMachine = GroupMachine.TestCase
