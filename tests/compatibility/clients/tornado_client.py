import asyncio

from scenario import AUTHORIZATION, MESSAGES, URL, report
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect


async def main() -> None:
    socket = await websocket_connect(HTTPRequest(URL, headers=AUTHORIZATION), subprotocols=["chat"])
    echoes = []
    for message in MESSAGES:
        await socket.write_message(message, binary=isinstance(message, bytes))
        echoes.append(await socket.read_message())
    await socket.write_message("push")
    pushed = await socket.read_message()
    await socket.write_message("bye")
    assert await socket.read_message() is None
    try:
        await websocket_connect(f"{URL}refused")
    except HTTPClientError as error:
        report(socket.selected_subprotocol, echoes, pushed, (socket.close_code, socket.close_reason), error.code)


asyncio.run(main())
