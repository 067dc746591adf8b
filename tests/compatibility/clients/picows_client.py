import asyncio

from picows import WSInvalidStatusError, WSListener, WSMsgType, ws_connect
from scenario import AUTHORIZATION, MESSAGES, URL, report


class Listener(WSListener):
    def __init__(self) -> None:
        self.frames = asyncio.Queue()

    def on_ws_frame(self, transport, frame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.frames.put_nowait((int(frame.get_close_code()), frame.get_close_message().decode()))
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            self.frames.put_nowait(frame.get_payload_as_utf8_text())
        elif frame.msg_type == WSMsgType.BINARY:
            self.frames.put_nowait(frame.get_payload_as_bytes())


async def main() -> None:
    headers = [*AUTHORIZATION.items(), ("Sec-WebSocket-Protocol", "chat")]
    transport, listener = await ws_connect(Listener, URL, extra_headers=headers)
    echoes = []
    for message in MESSAGES:
        kind = WSMsgType.TEXT if isinstance(message, str) else WSMsgType.BINARY
        transport.send(kind, message.encode() if isinstance(message, str) else message)
        echoes.append(await listener.frames.get())
    transport.send(WSMsgType.TEXT, b"push")
    pushed = await listener.frames.get()
    transport.send(WSMsgType.TEXT, b"bye")
    close = await listener.frames.get()
    subprotocol = transport.response.headers["Sec-WebSocket-Protocol"]
    try:
        await ws_connect(Listener, f"{URL}refused")
    except WSInvalidStatusError as error:
        report(subprotocol, echoes, pushed, close, int(error.response.status))


asyncio.run(main())
