"""A certificate authority for tests, and the files of its certificates."""

import ssl
from datetime import datetime
from pathlib import Path

import trustme


class CertificateAuthority:
    """Signs certificates and writes them to `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.issuer = trustme.CA()
        self.path = folder / "authority.pem"
        self.publish()

    def publish(self) -> Path:
        """Write the authority's own certificate, replacing that of another authority."""
        self.issuer.cert_pem.write_to_path(self.path)
        return self.path

    def issue(self, *names: str, not_after: datetime | None = None) -> dict[str, Path]:
        """Sign a certificate for `names`; return the settings of a node that uses it."""
        leaf = self.issuer.issue_cert(*names or ("localhost", "127.0.0.1", "::1"), not_after=not_after)
        cert, key = self.folder / "cert.pem", self.folder / "key.pem"
        cert.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
        return {"tls_cert": cert, "tls_key": key}

    def client(self, *, signed_by: "CertificateAuthority | None" = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority and has a certificate `signed_by` another one."""
        context = ssl.create_default_context(cadata=self.issuer.cert_pem.bytes().decode())
        if signed_by is not None:
            signed_by.issuer.issue_cert("client@example.com").configure_cert(context)
        return context

    def server(self, *names: str, not_after: datetime | None = None) -> ssl.SSLContext:
        """Return the context of a server with a certificate for `names`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.issuer.issue_cert(*names, not_after=not_after).configure_cert(context)
        return context
