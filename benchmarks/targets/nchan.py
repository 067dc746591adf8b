"""Nchan, a module of nginx, set up for speed: one worker, no regular expressions, nothing stored, nothing logged.

The backend authorizes a client that connects (POST), receives each of its messages (PUT), and is notified when the
client has left (DELETE). A push is a POST to the channel that has the client's number.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.targets.base import GROUP, HANDSHAKE, PUSH, Placement, Target
from benchmarks.wire import HOST

MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
ABOUT_CLIENT = """proxy_pass_request_body off;
            proxy_set_header Host localhost;
            proxy_set_header Connection "";
            proxy_set_header Authorization $http_authorization;
            proxy_set_header X-Channel-Id /c/$nchan_channel_id;
            proxy_set_header Content-Length "";"""
"""Headers of the request to the backend about a client that connects or disconnects."""

CONFIGURATION = """
load_module {module};
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 24000; multi_accept on; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    client_max_body_size 16m;
    client_body_buffer_size 1200k;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    nchan_shared_memory_size 1024M;
    nchan_store_messages off;
    upstream backend {{
        server {host}:{backend};
        keepalive {connections};
        keepalive_requests 1000000000;
    }}
    proxy_http_version 1.1;
    proxy_pass_request_headers off;
    proxy_set_header Host localhost;
    proxy_set_header Connection "";
    proxy_set_header Authorization $http_authorization;
    proxy_set_header X-Channel-Id /c/$nchan_channel_id;
    server {{
        listen {host}:{client} backlog=4096;
        location = /sub {{
            nchan_pubsub websocket;
            nchan_channel_id $arg_id;
            nchan_authorize_request /authorize;
            nchan_unsubscribe_request /unsubscribe;
            nchan_publisher_upstream_request /message;
        }}
        location = /group {{
            nchan_subscriber websocket;
            nchan_channel_id $arg_id;
            nchan_authorize_request /authorize_member;
        }}
        location = /authorize_member {{
            internal;
            proxy_pass http://backend/;
            proxy_method POST;
            proxy_pass_request_body off;
            proxy_set_header X-Client $request_uri;
            proxy_set_header Content-Length "";
        }}
        location = /authorize {{
            internal;
            proxy_pass http://backend/;
            proxy_method POST;
            {about_client}
        }}
        location = /unsubscribe {{
            internal;
            proxy_pass http://backend/;
            proxy_method DELETE;
            proxy_ignore_client_abort on;
            {about_client}
        }}
        location = /message {{
            internal;
            proxy_pass http://backend/;
            proxy_method PUT;
        }}
    }}
    server {{
        listen {host}:{control} backlog=4096;
        location = /pub {{
            nchan_publisher http;
            nchan_channel_id $arg_id;
        }}
    }}
}}
"""


class Nchan(Target):
    """nginx with Nchan."""

    name = "nchan"
    install = "apt-get install nginx-light libnginx-mod-nchan"
    handshake = HANDSHAKE.replace("/c/{n}", "/sub?id={n}")
    push = PUSH.replace("PUT {id}", "POST /pub?id={n}")
    member_handshake = HANDSHAKE.replace("/c/{n}", f"/group?id={GROUP}&client=/c/{{n}}")
    publish = PUSH.replace("PUT {id}", f"POST /pub?id={GROUP}")

    def missing(self) -> bool:
        """Look for nginx and its module."""
        return shutil.which("nginx") is None or not MODULE.exists()

    def version(self) -> str:
        """Return nginx's version and the module's."""
        nginx = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr.strip()  # noqa: S607 - wherever it is installed
        return f"{nginx}, Nchan"

    def command(self, placement: Placement) -> Sequence[str]:
        """Write the configuration, return the command."""
        path = placement.folder / "nginx.conf"
        path.write_text(
            CONFIGURATION.format(
                module=MODULE,
                host=HOST,
                backend=placement.backend,
                client=placement.client,
                control=placement.control,
                connections=placement.connections,
                about_client=ABOUT_CLIENT,
            )
        )
        return ["nginx", "-p", str(placement.folder), "-c", str(path)]

    def control_port(self, placement: Placement) -> int:
        """Return the publisher's port."""
        return placement.control
