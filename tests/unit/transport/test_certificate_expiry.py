"""When a certificate expires."""

from datetime import datetime, timezone

import pytest

from tests.support.certificate_authority import CertificateAuthority
from wsaas import settings
from wsaas.transport.certificate_expiry import expiry
from wsaas.transport.certificates import Certificates


@pytest.fixture
def authority(tmp_path):
    return CertificateAuthority(tmp_path)


@pytest.mark.parametrize("year", [2031, 2049, 2050, 2120])
def test_it_is_read_from_the_first_certificate_of_a_file(authority, year):
    # From 2050 on, the time has another form.
    moment = datetime(year, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    text = authority.issue(not_after=moment)["tls_cert"].read_text()
    assert expiry(text + authority.publish().read_text()) == moment.timestamp()
    assert expiry("A comment\n" + text) == moment.timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ],
)
def test_a_text_without_a_certificate_has_none(text):
    assert expiry(text) is None


def test_a_certificate_that_is_loaded_again_has_its_own(authority):
    times = [datetime(year, 1, 1, tzinfo=timezone.utc) for year in (2030, 2031)]
    files = authority.issue(not_after=times[0])
    given = {"api_uri": "backend:8000/hook", **{name: str(value) for name, value in files.items()}}
    certificates = Certificates(settings.load(given, {}))
    found = [certificates.expires]
    for moment in times:
        authority.issue(not_after=moment)
        certificates.load()
        found.append(certificates.expires)
    assert found == [None, *(moment.timestamp() for moment in times)]
