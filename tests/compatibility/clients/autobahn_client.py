import asyncio
import re
from urllib.parse import urlsplit

from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
from scenario import AUTHORIZATION, MESSAGES, URL, report


class Protocol(WebSocketClientProtocol):
    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.get_running_loop().create_future()
        self.events = asyncio.Queue()

    def onConnect(self, response) -> None:
        self.opened.set_result(response.protocol)

    def onMessage(self, payload, isBinary) -> None:
        self.events.put_nowait(payload if isBinary else payload.decode())

    def onClose(self, wasClean, code, reason) -> None:
        if self.opened.done():
            self.events.put_nowait((self.remoteCloseCode, self.remoteCloseReason))
        else:
            self.opened.set_exception(ConnectionError(reason))


async def connect(url: str) -> Protocol:
    factory = WebSocketClientFactory(url, protocols=["chat"], headers=AUTHORIZATION)
    factory.protocol = Protocol
    where = urlsplit(url)
    _, protocol = await asyncio.get_running_loop().create_connection(factory, where.hostname, where.port)
    return protocol


async def main() -> None:
    socket = await connect(URL)
    subprotocol = await socket.opened
    echoes = []
    for message in MESSAGES:
        is_binary = isinstance(message, bytes)
        socket.sendMessage(message if is_binary else message.encode(), is_binary)
        echoes.append(await socket.events.get())
    socket.sendMessage(b"push")
    pushed = await socket.events.get()
    socket.sendMessage(b"bye")
    close = await socket.events.get()
    try:
        await (await connect(f"{URL}refused")).opened
    except ConnectionError as error:
        report(subprotocol, echoes, pushed, close, int(re.search(r"\[(\d{3})\]", str(error))[1]))


asyncio.run(main())
