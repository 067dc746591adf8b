import pytest

from tests.support.azure_tokens import KEY, OTHER_KEY, client_token, make_token
from wsaas.access_keys import AccessKeys
from wsaas.errors import HTTPError
from wsaas.websocket.handshake import Handshake
from wsaas.websocket.hub_access import HubAccess

NOW = 1000.0
KEYS = AccessKeys([KEY.encode()])


def arrive(path: str = "/client/hubs/chat", token: str | None = None, *, keys: AccessKeys | None = KEYS) -> str:
    """Return why a client is refused, empty if it is not."""
    authorization = None if token is None else f"Bearer {token}".encode()
    handshake = Handshake(b"key", path, "", {}, [], authorization)
    try:
        HubAccess("main", keys).check(handshake, NOW)
    except HTTPError as error:
        return " ".join([str(error.status), error.message, *map(": ".join, error.headers)])
    return ""


@pytest.mark.parametrize("hub", ["chat", "CHAT"])
def test_a_token_for_the_hub_lets_a_client_in(hub):
    assert not arrive(token=client_token(hub))


def test_a_token_may_be_for_several_audiences():
    assert not arrive(token=make_token({"aud": ["https://other.example", "https://x.example/client/hubs/chat"]}))


def test_a_url_without_hub_is_for_the_usual_one():
    assert not arrive("/", client_token("main"))
    assert arrive("/", client_token("chat")) == "401 The token is for another hub. WWW-Authenticate: Bearer"


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (None, "A token is required: send it as access_token in the query."),
        ("abc", "The token is not signed with one of CONTROL_AZURE_KEYS."),
        (make_token({}, OTHER_KEY), "The token is not signed with one of CONTROL_AZURE_KEYS."),
        (client_token(exp=1), "The token has expired, or is not valid yet."),
        (client_token(nbf=2000), "The token has expired, or is not valid yet."),
        (client_token("chats"), "The token is for another hub."),
        (make_token({}), "The token is for another hub."),
        (make_token({"aud": "http://localhost/api/hubs/chat"}), "The token is for another hub."),
    ],
)
def test_others_are_refused(token, why):
    assert arrive(token=token) == f"401 {why} WWW-Authenticate: Bearer"


def test_without_keys_nothing_is_required():
    assert not arrive(keys=None)
    assert not arrive(token="abc", keys=None)


@pytest.mark.parametrize("path", ["/client/hubs/", "/client/hubs/a-b", "/client/hubs/1"])
def test_a_hub_that_cannot_exist_is_not_found(path):
    refused = "404 There is no such hub: the name of a hub is a letter and up to 63 letters, digits and underscores."
    assert arrive(path, client_token()) == arrive(path, keys=None) == refused
