"""Loads the files of the TLS settings into contexts of the `ssl` module."""

import re
import ssl
from pathlib import Path
from typing import Final, NoReturn

from wsaas.errors import SettingError
from wsaas.settings import Settings, control_address, listen_address
from wsaas.transport.certificate_expiry import expiry

ALPN_PROTOCOLS: Final = ["http/1.1"]
"""The protocols to negotiate (RFC 7301), so that browsers do not try HTTP/2."""

_CERTIFICATE: Final = re.compile(r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
_KEY: Final = re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")  # of any algorithm, or an encrypted one
_ENCRYPTED: Final = re.compile(r"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.MULTILINE)


class Certificates:
    """The TLS contexts of one node: for the listeners of `clients` and `control`, and for connections.

    Those are connections to the `backend`, to other `nodes`, and to `nats`.

    A context is None without TLS. `load` replaces the contexts of new connections; open connections keep theirs.
    """

    def __init__(self, settings: Settings) -> None:
        """Prepare for `settings`. No file is read before `load`."""
        self._settings = settings
        self.clients: ssl.SSLContext | None = None
        self.control: ssl.SSLContext | None = None
        self.backend: ssl.SSLContext | None = None
        self.nodes: ssl.SSLContext | None = None
        self.nats: ssl.SSLContext | None = None
        self.expires: float | None = None
        """When the certificate in `TLS_CERT` expires, in seconds since the epoch; None without one."""

    def load(self) -> None:
        """Read all files and replace the contexts.

        Raises `SettingError` if settings contradict each other or a file cannot be used. The contexts then stay.
        """
        self._check()
        settings = self._settings
        clients = control = backend = nodes = nats = None
        if settings.tls_cert and settings.tls_key:
            clients = control = _server(settings.tls_cert, settings.tls_key)
            if settings.control_tls_ca:
                control = _server(settings.tls_cert, settings.tls_key)
                control.verify_mode = ssl.CERT_REQUIRED
                _trust(control, "CONTROL_TLS_CA", settings.control_tls_ca)
        if settings.api_uri.scheme == "https":
            backend = _client("API_TLS_CA", settings.api_tls_ca)
            backend.set_alpn_protocols(ALPN_PROTOCOLS)
        if settings.cluster:
            nats = _client("CLUSTER_TLS_CA", settings.cluster_tls_ca)
            nodes = _client("NODE_TLS_CA", settings.node_tls_ca)
            nodes.set_alpn_protocols(ALPN_PROTOCOLS)
            if settings.tls_cert and settings.tls_key:
                # Shown to nodes that ask for it. It was checked above.
                nodes.load_cert_chain(settings.tls_cert, settings.tls_key)
        self.clients, self.control, self.backend = clients, control, backend
        self.nodes, self.nats = nodes, nats
        self.expires = None
        if settings.tls_cert:
            self.expires = expiry(_read("TLS_CERT", settings.tls_cert, _CERTIFICATE, "certificate"))

    def _check(self) -> None:
        settings = self._settings
        cert, key, authorities = settings.tls_cert, settings.tls_key, settings.control_tls_ca
        if cert and not key:
            _refuse("TLS_CERT", cert, "needs the certificate's key: set TLS_KEY")
        if key and not cert:
            _refuse("TLS_KEY", key, "needs the key's certificate: set TLS_CERT")
        if authorities and not cert:
            _refuse("CONTROL_TLS_CA", authorities, "needs TLS: set TLS_CERT and TLS_KEY")
        if authorities and control_address(settings) == listen_address(settings):
            _refuse("CONTROL_TLS_CA", authorities, "would ask clients for certificates too: set CONTROL_LISTEN")
        if settings.api_tls_ca and settings.api_uri.scheme != "https":
            _refuse("API_TLS_CA", settings.api_tls_ca, "needs a backend with TLS: an API_URI with https://")
        if settings.cluster_tls_ca and not any(server.is_tls for server in settings.cluster):
            _refuse("CLUSTER_TLS_CA", settings.cluster_tls_ca, "needs NATS servers with TLS: tls:// in CLUSTER")


def _server(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    chain = _read("TLS_CERT", cert, _CERTIFICATE, "certificate")
    if _ENCRYPTED.search(_read("TLS_KEY", key, _KEY, "private key")):
        _refuse("TLS_KEY", key, "is encrypted with a password: store the key without one")
    try:
        # With a password given, OpenSSL does not ask for one on the terminal.
        context.load_cert_chain(cert, key, password="")
    except OSError as error:
        if _mentions(error, "KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            _refuse("TLS_KEY", key, f"is not the key of the certificate in TLS_CERT={str(cert)!r}")
        if _mentions(error, "TOO_SMALL", "TOO_WEAK") or not _is_readable(chain):
            _refuse("TLS_CERT", cert, f"cannot be used: {_reason(error)}")
        _refuse("TLS_KEY", key, f"cannot be used: {_reason(error)}")
    return context


def _client(name: str, authorities: Path | None) -> ssl.SSLContext:
    """Return a context for connections that trusts only `authorities` (the setting `name`), or else the system's."""
    if authorities is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _trust(context, name, authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _trust(context: ssl.SSLContext, name: str, authorities: Path) -> None:
    """Trust the certificates in the file `authorities`, also an intermediate certificate without its root."""
    text = _read(name, authorities, _CERTIFICATE, "certificate")
    try:
        context.load_verify_locations(cadata=text)
    except ssl.SSLError as error:
        _refuse(name, authorities, f"cannot be used: {_reason(error)}")
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _is_readable(chain: str) -> bool:
    """Return whether OpenSSL can read the certificates of `chain`."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=chain)
    except ssl.SSLError:
        return False
    return True


def _read(name: str, path: Path, mark: re.Pattern[str], what: str) -> str:
    """Return the text of a PEM file. Raises `SettingError` unless it matches `mark`, the first line of a `what`."""
    try:
        # PEM is ASCII (RFC 7468), but a file may contain other text around it.
        text = path.read_bytes().decode("ascii", "ignore")
    except OSError as error:
        _refuse(name, path, f"cannot be read: {error.strerror}")
    if not mark.search(text):
        _refuse(name, path, f"contains no {what} in PEM form")
    return text


def _refuse(name: str, path: Path, why: str) -> NoReturn:
    raise SettingError(f"{name}={str(path)!r}: {why}") from None


def _mentions(error: OSError, *reasons: str) -> bool:
    return any(reason in (getattr(error, "reason", None) or "") for reason in reasons)


def _reason(error: OSError) -> str:
    """Return the reason from OpenSSL, without the file and line of its source."""
    return (getattr(error, "reason", None) or "damaged, or not in PEM form").replace("_", " ").lower()
