"""The files that are reloaded on SIGHUP."""

from dataclasses import fields

import pytest

from tests.support.fakes import make_settings
from wsaas import setting_types
from wsaas.access_keys import AccessKeys
from wsaas.api.aws_keys import AwsKeys
from wsaas.api.bearer_tokens import BearerTokens
from wsaas.delivery.signature import Signer
from wsaas.reload import SECRET_FILES, TLS_FILES, file_sources
from wsaas.settings import Settings
from wsaas.transport.certificates import Certificates

SECRET = "whsec_" + "A" * 32


class FakeCertificates(Certificates):
    """Counts its calls of `load`."""

    def __init__(self):
        self.count = 0

    def load(self):
        self.count += 1


def test_each_setting_with_a_secret_or_a_pem_file_is_reloaded():
    settings = fields(Settings)
    assert [each.name + "_file" for each in settings if each.metadata["secret"]] == [*SECRET_FILES]
    assert [each.name for each in settings if each.metadata["kind"] is setting_types.pem_path] == [*TLS_FILES]


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        ({}, []),
        (
            {
                "tls_cert": "/c",
                "tls_key": "/k",
                "control_tls_ca": "/a",
                "api_tls_ca": "/b",
                "cluster_tls_ca": "/n",
                "node_tls_ca": "/o",
            },
            [
                ", ".join(
                    f"{name}='/{letter}'"
                    for name, letter in [
                        ("TLS_CERT", "c"),
                        ("TLS_KEY", "k"),
                        ("CONTROL_TLS_CA", "a"),
                        ("API_TLS_CA", "b"),
                        ("CLUSTER_TLS_CA", "n"),
                        ("NODE_TLS_CA", "o"),
                    ]
                )
            ],
        ),
        ({"api_tls_ca": "/b"}, ["API_TLS_CA='/b'"]),
    ],
)
def test_tls_files_are_loaded_together(files, shown):
    certificates = FakeCertificates()
    sources = file_sources(make_settings(**files), certificates, BearerTokens(()), None, None, None, None)
    assert [source.shown for source in sources] == shown
    for source in sources:
        source.load()
    assert certificates.count == len(shown)


def test_each_secret_file_is_loaded_by_itself(tmp_path):
    tokens, secrets, keys, azure = (tmp_path / name for name in ("tokens", "secrets", "keys", "azure"))
    tokens.write_text("one")
    secrets.write_text(SECRET)
    keys.write_text("id:secret")
    azure.write_text("key")
    paths = {"control_token_file": tokens, "api_secret_file": secrets, "control_aws_keys_file": keys}
    paths["control_azure_keys_file"] = azure
    given = make_settings(event_format="azure", **{name: str(path) for name, path in paths.items()})
    now, signer, aws_keys = BearerTokens(given.control_token), Signer(given.api_secret), AwsKeys((), lambda: 0.0)
    access_keys = AccessKeys(())
    sources = file_sources(given, FakeCertificates(), now, signer, aws_keys, access_keys, None)
    assert [each.shown for each in sources] == [f"{name.upper()}='{path}'" for name, path in paths.items()]
    first, second, third, fourth = sources
    before = signer.lines(b"id", 0, b"")
    tokens.write_text("two")
    secrets.write_text(SECRET.replace("A", "B"))
    first.load()
    assert now.accept(b"Bearer two")
    assert signer.lines(b"id", 0, b"") == before
    second.load()
    assert signer.lines(b"id", 0, b"") != before
    assert len(aws_keys) == 0
    third.load()
    assert len(aws_keys) == 1
    assert access_keys.sign(b"x") == []
    fourth.load()
    assert len(access_keys.sign(b"x")) == 1
    direct = make_settings(control_token="one", api_secret=SECRET, control_aws_keys="id:secret")
    assert file_sources(direct, FakeCertificates(), now, signer, aws_keys, None, None) == []
