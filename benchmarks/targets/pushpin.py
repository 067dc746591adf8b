"""Pushpin, with the backend behind it speaking WebSocket-over-HTTP: what a plain HTTP backend uses it for.

A client that connects, each of its messages and its end are events in a POST. A push is a POST to the control port
that names the channel to which the backend subscribed the client when it came.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.targets.base import GROUP, Placement, Target
from benchmarks.wire import HOST

PROGRAMS = ("pushpin", "condure", "zurl", "pushpin-proxy", "pushpin-handler")
CONFIGURATION = """
[global]
include={{libdir}}/internal.conf
rundir={folder}
ipc_prefix=b-
port_offset=0

[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port={host}:{client}
logdir={folder}
log_level=1
client_buffer_size=8192
client_maxconn=50000
condure_bin=condure
zurl_bin=zurl

[proxy]
routesfile={folder}/routes
zurl_out_specs=ipc://{{rundir}}/{{ipc_prefix}}zurl-in
zurl_out_stream_specs=ipc://{{rundir}}/{{ipc_prefix}}zurl-in-stream
zurl_in_specs=ipc://{{rundir}}/{{ipc_prefix}}zurl-out
debug=false
auto_cross_origin=false
updates_check=off

[handler]
push_in_spec=
push_in_sub_specs=
push_in_http_addr={host}
push_in_http_port={control}
push_in_http_max_headers_size=10000
push_in_http_max_body_size=20000000
stats_spec=
command_spec=
message_rate=0
message_hwm=1000000
stats_connection_ttl=120
stats_subscription_ttl=60
stats_report_interval=10
"""


class Pushpin(Target):
    """Pushpin as Debian has it, without its limit on messages a second, with which it collects for 25 ms."""

    name = "pushpin"
    install = "apt-get install pushpin"
    grip = True
    most = 5000
    largest = 1 << 16
    push = (
        "POST /publish/ HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        '{"items":[{"channel":"{n}","formats":{"ws-message":{"content":"{body}"}}}]}'
    )

    publish = push.replace("{n}", GROUP)

    def missing(self) -> bool:
        """Look for its programs."""
        return any(shutil.which(program) is None for program in PROGRAMS)

    def version(self) -> str:
        """Return the version."""
        printed = subprocess.run(["pushpin", "--version"], check=True, capture_output=True, text=True)  # noqa: S607 - wherever it is installed
        return printed.stdout.strip()

    def command(self, placement: Placement) -> Sequence[str]:
        """Write the configuration, return the command."""
        path = placement.folder / "pushpin.conf"
        path.write_text(
            CONFIGURATION.format(folder=placement.folder, host=HOST, client=placement.client, control=placement.control)
        )
        Path(placement.folder / "routes").write_text(f"* {HOST}:{placement.backend},over_http\n")
        return ["pushpin", "--config", str(path), "--merge-output"]

    def control_port(self, placement: Placement) -> int:
        """Return the control port."""
        return placement.control
