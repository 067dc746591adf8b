import asyncio

import aiohttp
from scenario import AUTHORIZATION, MESSAGES, URL, report


async def main() -> None:
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(URL, headers=AUTHORIZATION, protocols=["chat"]) as socket:
            echoes = []
            for message in MESSAGES:
                await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
                echoes.append((await socket.receive()).data)
            await socket.send_str("push")
            pushed = await socket.receive_str()
            await socket.send_str("bye")
            closed = await socket.receive()
        try:
            await http.ws_connect(f"{URL}refused")
        except aiohttp.WSServerHandshakeError as error:
            report(socket.protocol, echoes, pushed, (closed.data, closed.extra), error.status)


asyncio.run(main())
