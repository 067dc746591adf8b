from tests.support.fakes import FakeClock, FakePendingClient, FakeWebhook, make_settings, start_session
from wsaas.cluster.router import LocalRouter
from wsaas.delivery.journal import NoJournal
from wsaas.sessions.registry import Registry


def test_the_router_of_a_single_process_finds_its_sessions_and_no_peers():
    registry = Registry(make_settings(), FakeClock(), FakeWebhook(), NoJournal(), 10)
    router = LocalRouter(registry)
    session = start_session(registry, FakePendingClient())
    assert router.find(session.id) is session
    assert router.find("a" * 30) is None
    assert router.find_peer("a" * 30) is None
    assert router.find_process("a" * 30) is None
    assert router.within_node is router


def test_the_local_router_adds_no_call_to_the_look_up_of_a_session():
    registry = Registry(make_settings(), FakeClock(), FakeWebhook(), NoJournal(), 10)
    assert LocalRouter(registry).find == registry.find
