import pytest
from fakes import FakeClock, FakeDoor, FakeWebhook, make_handshake, make_settings

from wsaas import errors
from wsaas.journal import NoJournal
from wsaas.registry import ID_FORM, Registry
from wsaas.session import State
from wsaas.webhook import TAKEN, Admitted, Denied

OK = Admitted(None, None)
REFUSED = Denied(errors.Forbidden("no"), told=False)


class Rig:
    def __init__(self, limit=2):
        self.clock = FakeClock()
        self.webhook = FakeWebhook()
        self.registry = Registry(make_settings(), self.clock, self.webhook, NoJournal(), limit)
        self.deserted = []
        self.emptied = []

    def admit(self):
        self.registry.check()
        return self.registry.admit(make_handshake(), "192.0.2.7", FakeDoor())

    def shut(self):
        self.registry.shut(lambda: self.deserted.append("deserted"), lambda: self.emptied.append("emptied"))


@pytest.fixture
def rig():
    return Rig()


def test_a_new_registry_is_open_and_empty(rig):
    assert rig.registry.is_open
    assert len(rig.registry) == 0
    assert list(rig.registry.live()) == []
    assert list(rig.registry.ending()) == []
    rig.registry.check()


def test_ids_are_128_random_bits_in_url_safe_characters():
    rig = Rig(limit=1000)
    ids = {rig.admit().id for _ in range(1000)}
    assert len(ids) == 1000
    assert all(ID_FORM.fullmatch(each) for each in ids)
    # Every character of the alphabet turns up where it can: nothing of them is fixed.
    assert {len(each) for each in ids} == {22}
    assert all(len({each[place] for each in ids}) == 64 for place in range(21))
    assert len({each[21] for each in ids}) == 4


@pytest.mark.parametrize("text", ["", "healthz", "a" * 21, "a" * 23, "a" * 21 + "/", "a" * 21 + "\n", "a" * 22 + "\n"])
def test_only_an_id_has_the_form_of_an_id(text):
    assert not ID_FORM.fullmatch(text)


def test_a_client_is_found_from_the_first_moment_until_it_is_gone(rig):
    session = rig.admit()
    assert rig.registry.find(session.id) is session
    assert len(rig.registry) == 1
    rig.webhook.answer(OK)
    assert rig.registry.find(session.id) is session
    session.lost()
    assert rig.registry.find(session.id) is None
    assert len(rig.registry) == 0


def test_an_id_that_never_was_is_not_found(rig):
    rig.admit()
    assert rig.registry.find("a" * 22) is None


def test_the_backend_is_asked_about_a_client_with_its_id_and_address(rig):
    session = rig.admit()
    assert rig.webhook.subject.id == session.id
    assert session.remote_address == "192.0.2.7"
    assert session.state is State.CONNECTING


def test_clients_are_listed_oldest_first(rig):
    first, second = rig.admit(), rig.admit()
    assert list(rig.registry.live()) == [first, second]


def test_a_client_that_is_gone_is_ending_until_the_backend_knows(rig):
    session = rig.admit()
    rig.webhook.answer(OK)
    session.lost()
    assert list(rig.registry.live()) == []
    assert list(rig.registry.ending()) == [session]
    rig.webhook.answer(TAKEN)
    assert list(rig.registry.ending()) == []


def test_a_client_that_was_refused_is_in_no_list(rig):
    rig.admit()
    rig.webhook.answer(REFUSED)
    assert len(rig.registry) == 0
    assert list(rig.registry.ending()) == []


def test_past_the_limit_no_more_are_taken_until_one_is_gone(rig):
    first, _ = rig.admit(), rig.admit()
    with pytest.raises(errors.Unavailable, match="as many clients") as caught:
        rig.registry.check()
    assert caught.value.headers == (("Retry-After", "1"),)
    first.lost()
    rig.registry.check()


def test_a_shut_registry_takes_no_more(rig):
    rig.shut()
    assert not rig.registry.is_open
    with pytest.raises(errors.Unavailable, match="about to stop") as caught:
        rig.registry.check()
    assert caught.value.headers == (("Retry-After", "1"),)


def test_an_empty_registry_is_emptied_as_soon_as_it_is_shut(rig):
    rig.shut()
    assert rig.emptied == ["emptied"]


def test_a_registry_is_emptied_when_the_backend_knows_of_every_end(rig):
    first, second = rig.admit(), rig.admit()
    rig.webhook.answer(OK)
    rig.webhook.answer(OK)
    first.lost()
    rig.shut()
    second.lost()
    assert rig.emptied == []
    rig.webhook.answer(TAKEN)
    assert rig.emptied == []
    rig.webhook.answer(TAKEN)
    assert rig.emptied == ["emptied"]


def test_a_registry_with_a_client_left_is_not_emptied(rig):
    first, _ = rig.admit(), rig.admit()
    rig.webhook.answer(OK)
    rig.webhook.answer(OK)
    rig.shut()
    first.lost()
    rig.webhook.answer(TAKEN)
    assert list(rig.registry.ending()) == []
    assert rig.emptied == []


def test_a_registry_that_stays_open_is_never_emptied(rig):
    rig.admit().lost()
    rig.webhook.answer(REFUSED)
    assert rig.emptied == []
    assert rig.registry.is_open
