#!/opt/wsaas/bin/python -I
"""Asks the gateway in this container whether it is well: exit status 0 if it answers 200, otherwise 1.

`wsaas-health` asks /healthz: is the process alive? `wsaas-health /readyz`: does it accept clients? It finds the REST
API by the same variables as the gateway, and sees no flags. With CONTROL_TLS_CA it has no certificate to show, and only
connects.
"""

import os
import socket
import ssl
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 4.0


class GatewayConnection(HTTPConnection):
    """A connection to the REST API on this machine, at whichever address it listens."""

    def connect(self) -> None:
        """Connect to `CONTROL_LISTEN`, else `LISTEN`."""
        address = os.environ.get("CONTROL_LISTEN") or os.environ.get("LISTEN") or ":8080"
        if address.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            path = address.removeprefix("unix:")
            self.sock.connect(f"\0{path[1:]}" if path.startswith("@") else path)
        else:
            host, _, ports = address.rpartition(":")
            host = host.strip("[]")
            if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - nothing listens there
                host = "localhost"
            self.sock = socket.create_connection((host, int(ports.partition("-")[0])), self.timeout)
        if os.environ.get("TLS_CERT") and not os.environ.get("CONTROL_TLS_CA"):
            # The certificate has the public name. Nothing secret is sent, and the answer is only a hint.
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)


def problem(path: str) -> str:
    """Return what is wrong with the answer to GET `path`; empty if nothing is."""
    connection = GatewayConnection("localhost", timeout=TIMEOUT_S)
    try:
        connection.connect()
        if os.environ.get("CONTROL_TLS_CA"):
            return ""
        connection.request("GET", path)
        response = connection.getresponse()
        return "" if response.status == HTTPStatus.OK else f"{path}: {response.status} {response.read().decode()}"
    except (OSError, HTTPException) as error:
        return f"{path}: {error!r}"
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(problem(sys.argv[1] if len(sys.argv) > 1 else "/healthz") or None)
