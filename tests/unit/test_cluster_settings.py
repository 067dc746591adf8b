"""The settings of a cluster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import make_settings
from tests.support.strategies import examples
from wsaas import settings
from wsaas.cluster_setting_types import NatsServer, nats_servers
from wsaas.errors import SettingError
from wsaas.settings import of_worker

CLUSTER = {"cluster": "nats://localhost", "node_address": "10.0.0.5:8081"}


def refusal(**values: str) -> str:
    with pytest.raises(SettingError) as raised:
        make_settings(**values)
    assert str(raised.value).isprintable()
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nats://host", NatsServer("host", 4222)),
        ("nats://Host:4000/", NatsServer("host", 4000)),
        ("tls://host.", NatsServer("host.", 4222, is_tls=True)),
        ("nats://127.0.0.1:1", NatsServer("127.0.0.1", 1)),
        ("nats://[::1]:4222", NatsServer("::1", 4222)),
        ("nats://me:pass@host", NatsServer("host", 4222, "me", "pass")),
        ("nats://t0ken@host:1", NatsServer("host", 1, "t0ken")),
        ("nats://m%40e:p%3Aa%2Fs@host", NatsServer("host", 4222, "m@e", "p:a/s")),
    ],
)
def test_a_nats_server_is_a_url(text, expected):
    assert make_settings(**{**CLUSTER, "cluster": text}).cluster == (expected,)


def test_several_nats_servers_are_separated_by_commas():
    servers = make_settings(**{**CLUSTER, "cluster": "nats://a,nats://b:1 , tls://c"}).cluster
    assert [str(each) for each in servers] == ["nats://a:4222", "nats://b:1", "tls://c:4222"]


@pytest.mark.parametrize(
    "text",
    [
        "host", "host:4222", "http://host", "nats://", "nats://host:0", "nats://host:65536", "nats://a,", ",nats://a",
        "nats://host/path", "nats://host?x", "nats://host#", "nats://host?", "nats://@host", "nats://:p@host",
        "nats://me:@host", "nats://a b", "nats://[::1", "nats://ho\u00e9", "nats://a:b", "ws://host",
    ],
)  # fmt: skip
def test_other_texts_are_no_nats_servers(text):
    assert "expected nats://host:port or tls://host:port" in refusal(**{**CLUSTER, "cluster": text})


def test_a_refused_url_is_shown_without_its_password():
    message = refusal(cluster="nats://me:pa55@host:x,nats://me:pa55@other", node_address="h:1")
    assert message.startswith("CLUSTER='nats://(hidden)@other': expected")


def test_user_and_password_are_not_shown():
    server = NatsServer("::1", 4222, "me", "pa55", is_tls=True)
    assert str(server) == "tls://[::1]:4222"
    assert "pa55" not in repr(server)
    assert "me" not in repr(server)


@examples(500)
@given(st.text(alphabet="nats:/tl@,.[]1%h-?# \n\u00e9", max_size=30))
def test_any_text_is_servers_or_a_value_error(text):
    try:
        servers = nats_servers.parse(text)
    except ValueError:
        return
    for server in servers:
        assert 0 < server.port < 65536
        server.host.encode("idna")


def test_a_cluster_needs_the_address_of_the_node():
    assert refusal(cluster="nats://localhost") == (
        "NODE_ADDRESS is not set: CLUSTER needs the host and port at which the other nodes reach the REST API of this "
        "node, such as NODE_ADDRESS=10.0.0.5:8081"
    )


def test_a_cluster_needs_a_token_to_forward_what_is_signed_with_an_access_key():
    message = refusal(**CLUSTER, control_aws_keys="id:secret")
    assert message.startswith("CONTROL_TOKEN is not set: with CLUSTER and CONTROL_AWS_KEYS, it is what a node forwards")
    for guard in ({"control_token": "s3cret"}, {"control_tls_ca": "/ca.pem"}):
        assert make_settings(**CLUSTER, control_aws_keys="id:secret", **guard).control_aws_keys == (b"id:secret",)


def test_a_cluster_needs_its_packages(monkeypatch):
    monkeypatch.setattr(settings, "find_spec", lambda name: None if name == "nats" else name)
    assert refusal(**CLUSTER) == (
        "CLUSTER needs packages that are not installed (nats): run pip install 'wsaas[cluster]'"
    )
    make_settings()


@pytest.mark.parametrize("text", ["https://10.0.0.5:8081", "node-1:80", "http://[fd00::1]:8081"])
def test_the_address_of_a_node_is_a_url_without_a_path(text):
    address = make_settings(node_address=text).node_address
    assert address is not None
    assert address.text == text


@pytest.mark.parametrize("text", ["host:1/", "host:1/x", "host:1?x", "ftp://host", "user@host"])
def test_other_texts_are_no_address_of_a_node(text):
    assert "expected host:port, optionally with http:// or https:// in front" in refusal(node_address=text)


@pytest.mark.parametrize("text", ["a", "A-z_0", "x" * 32])
def test_a_cluster_may_have_a_name(text):
    assert make_settings(cluster_name=text).cluster_name == text


@pytest.mark.parametrize("text", ["a.b", "a b", "*", ">", "\u00e9", "x" * 33])
def test_the_name_of_a_cluster_can_be_part_of_a_subject(text):
    assert "expected 1 to 32 letters, digits, - or _" in refusal(cluster_name=text)


@pytest.mark.parametrize(("text", "seconds"), [("1000", 1), ("1001", 2), ("15000", 15), ("999999999", 1_000_000)])
def test_a_lease_is_whole_seconds(text, seconds):
    assert make_settings(cluster_lease=text).cluster_lease == seconds


@pytest.mark.parametrize("text", ["0", "999", "-1", "15s", "1e4", "9999999999"])
def test_a_lease_is_at_least_one_second(text):
    assert "expected a number of milliseconds from 1000" in refusal(cluster_lease=text)


def test_several_cluster_secrets_keep_their_order():
    text = f"{'a' * 16}, {'b' * 20}"
    assert make_settings(cluster_secret=text).cluster_secret == (b"a" * 16, b"b" * 20)


@pytest.mark.parametrize("text", ["a" * 15, "a" * 16 + ",", "a" * 16 + " b", "\u00e9" * 16])
def test_a_wrong_cluster_secret_is_not_shown(text):
    message = refusal(cluster_secret=text)
    assert message.startswith("CLUSTER_SECRET=(hidden): expected secrets of at least 16 visible ASCII characters")


# The placeholder for the port


def test_the_address_of_a_node_may_contain_the_port_of_the_rest_api():
    address = make_settings(**{**CLUSTER, "node_address": "10.0.0.5:{port}"}, control_listen=":8081").node_address
    assert address is not None
    assert address.text == "10.0.0.5:8081"
    assert not address.needs_port


def test_without_a_listener_for_the_rest_api_it_is_the_port_for_clients():
    address = make_settings(**{**CLUSTER, "node_address": "10.0.0.5:{port}"}).node_address
    assert address is not None
    assert address.text == "10.0.0.5:8080"


def test_each_worker_may_have_an_address_of_its_own():
    values = {**CLUSTER, "node_address": "http://10.0.0.5:{port}", "control_listen": ":8081-8082", "workers": "2"}
    chosen = make_settings(**values)
    for index, port in enumerate((8081, 8082)):
        address = of_worker(chosen, index).node_address
        assert address is not None
        assert address.text == f"http://10.0.0.5:{port}"


def test_each_worker_needs_a_port():
    values = {**CLUSTER, "node_address": "10.0.0.5:{port}", "control_listen": ":8081", "workers": "2"}
    assert refusal(**values) == (
        "NODE_ADDRESS='10.0.0.5:{port}': {port} needs a port for each of 2 workers: set CONTROL_LISTEN to a range of "
        "at least 2 ports, such as :8082-8083"
    )
    assert refusal(**{**values, "control_listen": ":0"}) == (
        "NODE_ADDRESS='10.0.0.5:{port}': {port} needs a CONTROL_LISTEN with a port that is not 0"
    )
