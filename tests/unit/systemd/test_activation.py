"""The sockets that systemd passes, and the settings that they stand for."""

import os
import socket
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.errors import SettingError
from wsaas.systemd import activation as module
from wsaas.systemd.activation import Activation, activation


@pytest.fixture
def passed(monkeypatch):
    """Return a function that passes files to this process as systemd would, and returns the variables."""
    monkeypatch.setattr(module, "FIRST", 200)
    with ExitStack() as stack:

        def take(*files, names=None):
            stack.close()
            for number, file in enumerate(files, module.FIRST):
                os.dup2(file.fileno(), number)
                stack.callback(os.close, number)
            variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(files))}
            return variables if names is None else {**variables, "LISTEN_FDNAMES": ":".join(names)}

        yield take


@pytest.fixture
def listening():
    """Return a function that returns a socket which listens."""
    with ExitStack() as stack:

        def listen(family=socket.AF_INET, address=("127.0.0.1", 0)):
            sock = stack.enter_context(socket.socket(family))
            sock.bind(address)
            sock.listen()
            return sock

        yield listen


def port(sock):
    return sock.getsockname()[1]


def refusal(variables, flags=None, environment=None):
    variables = {"LISTEN_PID": str(os.getpid()), **variables}
    with pytest.raises(SettingError) as caught:
        activation(variables, flags or {}, environment or {})
    return str(caught.value)


def test_without_sockets_there_is_nothing():
    assert activation({}, {}, {}) == Activation()
    none = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0", "LISTEN_FDNAMES": ""}
    assert activation(none, {}, {}) == Activation()


def test_the_sockets_of_another_process_are_none():
    assert activation({"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1)}, {}, {}) == Activation()


def test_sockets_without_the_process_that_they_are_for_are_none(passed, listening):
    variables = passed(listening())
    del variables["LISTEN_PID"]
    assert activation(variables, {}, {}) == Activation()


def test_a_name_is_the_setting_that_a_socket_stands_for(passed, listening):
    control, clients = listening(), listening()
    found = activation(passed(control, clients, names=["control_listen", "listen"]), {}, {})
    first, second = f"127.0.0.1:{port(control)}", f"127.0.0.1:{port(clients)}"
    assert found == Activation({"control_listen": first, "listen": second}, {first: (200,), second: (201,)})
    assert not os.get_inheritable(200)


def test_without_names_the_first_socket_is_for_clients(passed, listening):
    clients, control = listening(), listening()
    assert activation(passed(clients), {}, {}).flags == {"listen": f"127.0.0.1:{port(clients)}"}
    assert activation(passed(clients, control), {}, {}).flags == {
        "listen": f"127.0.0.1:{port(clients)}",
        "control_listen": f"127.0.0.1:{port(control)}",
    }


def test_several_sockets_may_have_one_name_and_the_most_open_one_is_shown(passed, listening, tmp_path):
    local = listening(socket.AF_UNIX, str(tmp_path / "clients"))
    everywhere = listening(socket.AF_INET6, ("::", 0))
    found = activation(passed(local, everywhere, names=["listen", "listen"]), {}, {})
    text = f"[::]:{port(everywhere)}"
    assert found == Activation({"listen": text}, {text: (200, 201)})


def test_unix_sockets_may_be_files_or_abstract(passed, listening, tmp_path):
    file = listening(socket.AF_UNIX, str(tmp_path / "clients"))
    abstract = listening(socket.AF_UNIX, f"\0{tmp_path}/control")
    assert activation(passed(file, abstract), {}, {}).flags == {
        "listen": f"unix:{tmp_path}/clients",
        "control_listen": f"unix:@{tmp_path}/control",
    }


@pytest.mark.parametrize(("flags", "environment"), [({"listen": ":80"}, {}), ({}, {"LISTEN": ":80"})])
def test_a_setting_beside_its_socket_is_refused(flags, environment, passed, listening):
    message = refusal(passed(listening()), flags, environment)
    assert message.startswith("LISTEN is set, and systemd passes a socket for it, too")
    # Empty counts as not set.
    assert activation(passed(listening()), {"listen": None}, {"LISTEN": ""}).flags


def test_other_names_are_refused(passed, listening):
    message = refusal(passed(listening(), names=["wsaas.socket"]))
    assert "no socket can have the name 'wsaas.socket'" in message
    assert "FileDescriptorName= to listen or control_listen" in message


def test_a_wrong_number_of_names_is_refused(passed, listening):
    assert "expected a name for each of 2 sockets" in refusal(passed(listening(), listening(), names=["listen"]))


def test_more_than_two_sockets_need_names(passed, listening):
    assert "more than 2 sockets need names" in refusal(passed(listening(), listening(), listening()))


@pytest.mark.parametrize("text", ["", "-1", "two", "65", "9" * 5000, "\u0663"])
def test_a_wrong_number_of_sockets_is_refused(text):
    assert refusal({"LISTEN_FDS": text}) == f"LISTEN_FDS={text!r}: expected a number of sockets up to 64"


def test_one_address_under_two_names_is_refused(passed, listening):
    sock = listening()
    assert "two sockets with the address" in refusal(passed(sock, sock))


def test_what_is_no_listening_stream_socket_is_refused(passed, tmp_path):
    with (tmp_path / "file").open("w") as file:
        assert "descriptor 200 (listen) is no socket" in refusal(passed(file))
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        assert "neither a TCP nor a Unix stream socket" in refusal(passed(sock))
    with socket.socket() as sock:
        assert "does not listen: set Accept=no" in refusal(passed(sock))
    assert "descriptor 3000 (listen) is not open" in refusal_of_closed()


def refusal_of_closed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FIRST", 3000)
        return refusal({"LISTEN_FDS": "1"})


@given(st.text(), st.none() | st.text())
@examples(200)
def test_no_text_is_more_than_refused(count, names):
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
    if names is not None:
        variables["LISTEN_FDNAMES"] = names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FIRST", 3000)
        with suppress(SettingError):
            assert activation(variables, {}, {}) == Activation()
