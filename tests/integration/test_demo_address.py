"""Where the page of the demo listens, and what the demo prints about it."""

import errno
import socket
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.tcp_proxies import HAS_IPV6
from wsaas.cli import demo_address
from wsaas.cli import main as command
from wsaas.cli.command_options import DemoOptions
from wsaas.cli.demo_address import DemoAddress, choose, own_addresses, urls
from wsaas.cli.main import main

ALL = "0.0.0.0"


def test_without_a_flag_the_page_is_on_this_machine_only() -> None:
    port = free_port()
    assert choose(DemoOptions(), port) == DemoAddress("127.0.0.1", port)
    assert choose(DemoOptions(port=port), 1) == DemoAddress("127.0.0.1", port)


def test_with_a_host_the_page_is_there_and_has_the_names_of_this_machine() -> None:
    port = free_port()
    own = socket.gethostname().lower()
    assert choose(DemoOptions(host=ALL), port) == DemoAddress(ALL, port, (ALL, own, f"{own}.local"))
    named = choose(DemoOptions(host="Localhost", port=port), 1)
    assert (named.host in {"127.0.0.1", "::1"}, named.port, named.names[0]) == (True, port, "localhost")


def test_a_port_that_is_in_use_is_replaced_unless_it_was_chosen() -> None:
    with socket.create_server((ALL, 0)) as taken:
        port = taken.getsockname()[1]
        assert choose(DemoOptions(host=ALL), port).port not in {0, port}
        for options in (DemoOptions(host=ALL, port=port), DemoOptions(port=port)):
            with pytest.raises(OSError, match="in use") as caught:
                choose(options, 1)
            assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--host", "192.0.2.77", "--port", "8123"],
            "cannot listen on 192.0.2.77:8123: Cannot assign requested address",
        ),
        (["--host", "nowhere.invalid"], "cannot listen on nowhere.invalid:8000: "),
    ],
)
def test_an_address_that_cannot_be_bound_is_status_1_and_one_line(
    flags: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *flags], {}) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"wsaas: {said}")


def test_the_urls_are_those_of_the_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = {socket.AF_INET: "192.0.2.7", socket.AF_INET6: "2001:db8::7"}
    monkeypatch.setattr(demo_address, "own_addresses", lambda families: [addresses[each] for each in families])
    assert urls("127.0.0.1", 80) == ["http://localhost:80/"]
    assert urls("::1", 80) == ["http://localhost:80/"]
    assert urls("192.0.2.9", 80) == ["http://192.0.2.9:80/"]
    assert urls("2001:db8::9", 80) == ["http://[2001:db8::9]:80/"]
    assert urls(ALL, 80) == ["http://localhost:80/", "http://192.0.2.7:80/"]
    assert urls("::", 80) == ["http://localhost:80/", "http://192.0.2.7:80/", "http://[2001:db8::7]:80/"]


def test_the_own_addresses_are_of_interfaces_of_this_machine() -> None:
    for address in own_addresses([socket.AF_INET, *([socket.AF_INET6] if HAS_IPV6 else [])]):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.bind((address, 0))


def test_the_greeting_names_all_urls_and_warns_of_what_others_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_address, "own_addresses", lambda _: ["192.0.2.7"])
    text = DemoAddress(ALL, 8000, ("box",)).greeting("in two browser tabs", 8000, "http://localhost:8080/console")
    assert text == (
        "\n  Open http://localhost:8000/ in two browser tabs.\n  From other machines: http://192.0.2.7:8000/\n"
        "  To look inside, on this machine only: http://localhost:8080/console\n  Ctrl-C stops everything.\n"
        "  Warning: the demo has no authentication. Anyone who can reach this port can read all messages, "
        "and do on the page\n  what you can do. Use it only in networks that you trust.\n"
    )
    assert "To look inside" not in DemoAddress(ALL, 8000, ("box",)).greeting("to see 3 nodes", 8000)


def flags_of_backend(monkeypatch: pytest.MonkeyPatch, *flags: str) -> list[str]:
    """Return the flags with which the demo would start its backend."""
    seen = list[str]()

    def popen(words: list[str], **_: object) -> None:
        seen.extend(words[3:])
        raise InterruptedError

    monkeypatch.setattr("subprocess.Popen", popen)
    with pytest.raises(InterruptedError):
        main(["demo", *flags], {})
    return seen


def test_the_backend_gets_the_address_and_the_gateway_another_port(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, other = free_port(), free_port()
    monkeypatch.setattr(command, "DEMO_PORT", usual)
    monkeypatch.setattr(command, "DEMO_BACKEND_PORT", other)
    own = socket.gethostname().lower()
    flags = ("--host", ALL, "--port", str(usual), "--listen", f"{ALL}:{other}")
    assert flags_of_backend(monkeypatch, *flags) == [
        *("--gateway", f"localhost:{other}", "--with-parent", "--listen", f"{ALL}:{usual}"),
        *("--names", f"{ALL},{own},{own}.local", "--upstream", f"localhost:{other}"),
    ]


def test_a_gateway_on_a_unix_socket_is_reached_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = flags_of_backend(monkeypatch, "--listen", f"unix:{tmp_path}/socket", "--ws-hostname", "proxy:80")
    assert ("--upstream" in seen, seen[:2]) == (False, ["--gateway", "proxy:80"])
