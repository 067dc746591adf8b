"""Handshakes with `EVENT_FORMAT=azure`, as far as the gateway itself decides about them."""

from tests.support.azure_tokens import KEY, client_token
from tests.support.clients import upgrade
from tests.support.http_rig import HttpRig
from wsaas.events import Opened


def arrive(path: str, **values: str) -> HttpRig:
    rig = HttpRig(event_format="azure", **values)
    rig.receive(upgrade(path))
    return rig


def test_a_client_with_a_token_is_passed_on_to_the_backend_without_it():
    token = client_token()
    rig = arrive(f"/client/hubs/chat?a=b&access_token={token}", control_azure_keys=KEY)
    ((opened, _),) = rig.webhook.calls
    assert isinstance(opened, Opened)
    assert (opened.path, opened.query) == ("/client/hubs/chat", "a=b")
    assert rig.webhook.subject is not None
    assert rig.webhook.subject.authorization == f"Bearer {token}".encode()


def test_a_client_without_a_token_is_refused_and_the_backend_is_not_asked():
    rig = arrive("/client/hubs/chat", control_azure_keys=KEY)
    assert not rig.webhook.calls
    assert rig.transport.take().startswith(b"HTTP/1.1 401 ")


def test_without_keys_the_backend_decides():
    assert len(arrive("/client/hubs/chat").webhook.calls) == 1
