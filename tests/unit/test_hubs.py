import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.grammar import is_group_name
from wsaas.hubs import client_group, hub_group, hub_in_path, hub_in_url, is_hub, user_group

texts = st.text(max_size=60)


@pytest.mark.parametrize("name", ["a", "Chat", "chat_2", "a" * 64])
def test_names_of_hubs(name):
    assert is_hub(name)


@pytest.mark.parametrize("name", ["", "2chat", "_chat", "a-b", "a" * 65, "chät", "a\n"])
def test_other_names_are_none(name):
    assert not is_hub(name)


@pytest.mark.parametrize(
    ("path", "query", "hub"),
    [
        ("/client/hubs/chat", "", "chat"),
        ("/client/hubs/chat/", "x=1", "chat"),
        ("/gateway/client/hubs/Chat", "", "Chat"),
        ("/client/hubs/", "", ""),
        ("/client/hubs/a/b", "", None),
        ("/client", "hub=chat", "chat"),
        ("/client/", "a=b&hub=chat", "chat"),
        ("/client/", "", None),
        ("/client/", "hub=", None),
        ("/", "hub=chat", None),
        ("/myclient/hubs/chat", "", None),
    ],
)
def test_the_hub_in_a_path(path, query, hub):
    assert hub_in_path(path, query) == hub
    assert hub_in_url(f"https://example.com{path}?{query}") == hub


def test_what_is_no_url_has_no_hub():
    assert hub_in_url("http://[/client/hubs/chat") is None


def test_hubs_users_and_groups_are_groups():
    assert hub_group("Chat") == "chat:hub"
    assert user_group("Chat", "ann") == "chat:user:ann"
    assert client_group("Chat", "Room 1/a!") == "chat:group:Room!201!2Fa!21"
    assert client_group("chat", "ü") == "chat:group:!C3!BC"


@pytest.mark.parametrize("name", ["", "a" * 118, "ü" * 30])
def test_names_that_no_group_can_have(name):
    assert client_group("chat", name) is None
    assert user_group("chats", name) is None


@given(texts, texts)
@examples(300)
def test_different_names_are_different_groups(name, other):
    group, other_group = client_group("h", name), client_group("h", other)
    if group is not None:
        assert is_group_name(group)
        assert (group == other_group) == (name == other)
        assert group != user_group("h", name)
