"""A gateway whose backend accepts Ada, repeats messages, pushes when it is asked to, and says goodbye."""

import asyncio
from typing import Any

from tests.support.backend import Call
from tests.support.stage import Node, Stage

WS_TIMEOUT_MS = 1500
SILENCE_S = 1.8
"""How long a client waits for a push: longer than it lives without an answer to the gateway's pings."""


async def serve(stage: Stage, **settings: Any) -> Node:
    """Start it. Clients may send their token in the query."""

    def connect(call: Call) -> None:
        request = call.json["request"]
        if call.headers.get("authorization") != "Bearer ada" or request["path"] != "/":
            call.answer(401)
        elif "chat" in request["subprotocols"]:
            call.ok(subprotocol="chat")
        else:
            call.ok()

    async def message(call: Call) -> None:
        if call.body == b"push":
            await asyncio.sleep(SILENCE_S)
            await node.rest("PUT", call.client, "pushed", Content_Type="text/plain")
            call.ok()
        elif call.body == b"bye":
            call.answer(200, Ws_Close="4000 done")
        else:
            kind = "text" if call.headers["content-type"].startswith("text/") else "binary"
            call.answer(200, call.body, Ws_Reply=kind)

    stage.backend.on["POST"] = connect
    stage.backend.on["PUT"] = message
    usual = {"browser_authorization": "query:access_token", "compression": "on", "ws_timeout": WS_TIMEOUT_MS}
    node = await stage.node(**{**usual, **settings})
    return node
