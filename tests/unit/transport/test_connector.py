import pytest

from wsaas.backend_setting_type import backend
from wsaas.transport.connector import Destination


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://Backend.test/x", "backend.test"),
        ("https://a.test./", "a.test"),
        ("https://[::1]/", "::1"),
        ("https://[fe80::1%eth0]/", "fe80::1"),
    ],
)
def test_the_name_of_a_host_has_the_format_of_certificates(uri, name):
    url = backend.parse(uri)
    assert Destination(url.host, url.port, lambda: None, 1.0).server_name == name
