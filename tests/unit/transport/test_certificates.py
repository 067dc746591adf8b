"""TLS files: the contexts that are made of them, and the errors about files that cannot be used."""

import contextlib
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.support.certificate_authority import CertificateAuthority
from wsaas import settings
from wsaas.errors import SettingError
from wsaas.transport.certificates import Certificates

TWO = {"listen": "localhost:1", "control_listen": "localhost:2"}


@pytest.fixture
def authority(tmp_path):
    return CertificateAuthority(tmp_path)


def make(**values):
    """Read settings with `values`, then their files."""
    given = {"api_uri": "backend:8000/hook", **{name: str(value) for name, value in values.items()}}
    certificates = Certificates(settings.load(given, {}))
    certificates.load()
    return certificates


def complaint(**values):
    """Return the error about files that cannot be used."""
    with pytest.raises(SettingError) as caught:
        make(**values)
    text = str(caught.value)
    assert "\n" not in text
    # The error quotes nothing from a file.
    assert "PRIVATE" not in text
    return text


# The contexts.


def test_without_files_there_is_no_tls():
    certificates = make()
    assert (certificates.clients, certificates.control, certificates.backend) == (None, None, None)


def test_listeners_speak_tls_1_2_and_above_without_renegotiation(authority):
    certificates = make(**authority.issue())
    assert certificates.clients is certificates.control
    assert certificates.clients.minimum_version is ssl.TLSVersion.TLSv1_2
    assert certificates.clients.maximum_version is ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert certificates.clients.options & ssl.OP_NO_RENEGOTIATION
    assert certificates.clients.verify_mode is ssl.CERT_NONE
    assert certificates.backend is None


def test_certificate_and_key_may_be_in_one_file(authority):
    files = authority.issue()
    both = authority.folder / "both.pem"
    both.write_bytes(files["tls_key"].read_bytes() + files["tls_cert"].read_bytes())
    assert make(tls_cert=both, tls_key=both).clients


def test_only_the_rest_api_asks_for_certificates(authority):
    certificates = make(**authority.issue(), **TWO, control_tls_ca=authority.path)
    assert certificates.clients.verify_mode is ssl.CERT_NONE
    assert certificates.control.verify_mode is ssl.CERT_REQUIRED
    assert certificates.control.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(certificates.control.get_ca_certs()) == 1


@pytest.mark.parametrize("private", [True, False])
def test_the_certificate_of_the_backend_is_always_verified(authority, private):
    chosen = {"api_tls_ca": authority.path} if private else {}
    certificates = make(api_uri="https://backend/hook", **chosen)
    assert certificates.backend.verify_mode is ssl.CERT_REQUIRED
    assert certificates.backend.check_hostname
    assert certificates.backend.minimum_version is ssl.TLSVersion.TLSv1_2
    assert certificates.clients is None


def test_a_private_authority_replaces_those_of_the_system(authority, monkeypatch):
    (authority.folder / "other").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(CertificateAuthority(authority.folder / "other").path))
    # There may be text that is not ASCII above a certificate.
    authority.path.write_bytes("Amtsstube Köln\n".encode() + authority.path.read_bytes())
    (one,) = make(api_uri="https://backend/hook", api_tls_ca=authority.path).backend.get_ca_certs()
    assert one["subject"] == one["issuer"]


# Settings that do not fit together.


def test_a_certificate_needs_its_key_and_a_key_its_certificate(authority):
    files = authority.issue()
    cert, key = str(files["tls_cert"]), str(files["tls_key"])
    assert complaint(tls_cert=cert) == f"TLS_CERT={cert!r}: needs the certificate's key: set TLS_KEY"
    assert complaint(tls_key=key) == f"TLS_KEY={key!r}: needs the key's certificate: set TLS_CERT"


def test_client_certificates_need_a_listener_of_their_own(authority):
    files = authority.issue()
    name = f"CONTROL_TLS_CA={str(authority.path)!r}"
    for chosen in ({}, {"listen": "localhost:1", "control_listen": "localhost:1"}):
        said = complaint(**files, **chosen, control_tls_ca=authority.path)
        assert said == f"{name}: would ask clients for certificates too: set CONTROL_LISTEN"
    assert complaint(**TWO, control_tls_ca=authority.path) == f"{name}: needs TLS: set TLS_CERT and TLS_KEY"


def test_an_authority_for_the_backend_needs_https(authority):
    said = complaint(api_tls_ca=authority.path)
    assert said == f"API_TLS_CA={str(authority.path)!r}: needs a backend with TLS: an API_URI with https://"


# Files that cannot be used.

DAMAGED = "damaged, or not in pem form"


def damage(path: Path, how: str) -> None:
    """Damage a PEM file."""
    text = path.read_text()
    first, last = text.splitlines()[0], text.splitlines()[-1]
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how != "missing":
        path.write_text(
            {
                "empty": "",
                "cut off": text[:150],
                "not base64": f"{first}\n!!!!\n{last}\n",
                "not DER": f"{first}\nAAAA\n{last}\n",
                "binary": "\x00\x01\x02",
            }[how]
        )


FAULTS = {
    "missing": "cannot be read: No such file or directory",
    "a folder": "cannot be read: Is a directory",
    "empty": "contains no {} in PEM form",
    "binary": "contains no {} in PEM form",
    "cut off": f"cannot be used: {DAMAGED}",
    "not base64": f"cannot be used: {DAMAGED}",
    "not DER": f"cannot be used: {DAMAGED}",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("name", "what"), [("tls_cert", "certificate"), ("tls_key", "private key"), ("control_tls_ca", "certificate")]
)
def test_a_file_of_the_listeners_that_cannot_be_used_is_named(authority, fault, name, what):
    files = {**authority.issue(), "control_tls_ca": authority.path}
    damage(files[name], fault)
    assert complaint(**files, **TWO) == f"{name.upper()}={str(files[name])!r}: {FAULTS[fault].format(what)}"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_of_the_backend_that_cannot_be_used_is_named(authority, fault):
    damage(authority.path, fault)
    said = complaint(api_uri="https://backend/hook", api_tls_ca=authority.path)
    assert said == f"API_TLS_CA={str(authority.path)!r}: {FAULTS[fault].format('certificate')}"


@pytest.mark.parametrize("kind", [trustme.KeyType.ECDSA, trustme.KeyType.RSA])
def test_the_key_of_another_certificate_is_refused(authority, kind):
    files = authority.issue()
    authority.issuer.issue_cert("other", key_type=kind).private_key_pem.write_to_path(files["tls_key"])
    said = complaint(**files)
    assert said == (
        f"TLS_KEY={str(files['tls_key'])!r}: is not the key of the certificate in TLS_CERT={str(files['tls_cert'])!r}"
    )


def test_a_certificate_is_not_a_key_and_a_key_not_a_certificate(authority):
    files = authority.issue()
    assert complaint(**{**files, "tls_key": files["tls_cert"]}).endswith("contains no private key in PEM form")
    assert complaint(**{**files, "tls_cert": files["tls_key"]}).endswith("contains no certificate in PEM form")


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_an_encrypted_key_is_refused_without_a_password_prompt(authority, form):
    files = authority.issue()
    key = serialization.load_pem_private_key(files["tls_key"].read_bytes(), None)
    files["tls_key"].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            getattr(serialization.PrivateFormat, form),
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    said = complaint(**files)
    assert said == f"TLS_KEY={str(files['tls_key'])!r}: is encrypted with a password: store the key without one"


def test_a_weak_key_is_reported_for_its_certificate(authority, monkeypatch):
    files = authority.issue()

    def refuse(*_args, **_more):
        error = ssl.SSLError(1, "[SSL: EE_KEY_TOO_SMALL] ee key too small")
        error.reason = "EE_KEY_TOO_SMALL"
        raise error

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", refuse)
    assert complaint(**files) == f"TLS_CERT={str(files['tls_cert'])!r}: cannot be used: ee key too small"


# Files that change.


def test_contexts_are_replaced_all_or_none(authority):
    certificates = make(**authority.issue())
    before = certificates.clients
    authority.issue()
    certificates.load()
    assert certificates.clients is not before


def test_an_unusable_file_changes_nothing(authority):
    files = authority.issue()
    certificates = make(
        **files, **TWO, control_tls_ca=authority.path, api_uri="https://backend/", api_tls_ca=authority.path
    )
    before = (certificates.clients, certificates.control, certificates.backend)
    authority.path.write_text("")
    with pytest.raises(SettingError):
        certificates.load()
    assert (certificates.clients, certificates.control, certificates.backend) == before


# A cluster


CLUSTER = {"cluster": "tls://nats.test", "node_address": "https://10.0.0.5:8081"}


def test_without_a_cluster_there_is_no_tls_for_it():
    certificates = make()
    assert certificates.nats is None
    assert certificates.nodes is None


@pytest.mark.parametrize("private", [True, False])
def test_the_certificates_of_nats_and_of_other_nodes_are_always_verified(authority, private):
    files = {"cluster_tls_ca": authority.path, "node_tls_ca": authority.path} if private else {}
    certificates = make(**CLUSTER, **files)
    for context in (certificates.nats, certificates.nodes):
        assert context is not None
        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        if private:
            assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize("name", ["cluster_tls_ca", "node_tls_ca"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_of_the_cluster_that_cannot_be_used_is_named(authority, fault, name):
    path = authority.publish()
    damage(path, fault)
    assert complaint(**CLUSTER, **{name: path}).startswith(f"{name.upper()}={str(path)!r}: ")


def test_other_nodes_may_ask_for_the_certificate_of_this_one(authority):
    certificates = make(**CLUSTER, **authority.issue(), node_tls_ca=authority.path)
    listener = authority.server("localhost")
    listener.load_verify_locations(cadata=authority.path.read_text())
    listener.verify_mode = ssl.CERT_REQUIRED
    assert certificates.nodes is not None
    assert shake_hands(listener, certificates.nodes)


def test_an_authority_for_nats_needs_tls(authority):
    said = complaint(cluster="nats://h", node_address="h:1", cluster_tls_ca=authority.path)
    assert said == f"CLUSTER_TLS_CA={str(authority.path)!r}: needs NATS servers with TLS: tls:// in CLUSTER"


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> object:
    """Return the certificate of the client that the server got in a handshake for localhost."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    two = server.wrap_bio(to_server, to_client, server_side=True)
    done = set[ssl.SSLObject]()
    while len(done) < 2:
        for each in (one, two):
            with contextlib.suppress(ssl.SSLWantReadError):
                each.do_handshake()
                done.add(each)
    return two.getpeercert()
