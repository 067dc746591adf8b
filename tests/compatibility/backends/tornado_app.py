import asyncio
import json
import sys

from tornado.web import Application, HTTPError, RequestHandler


class Hook(RequestHandler):
    def post(self):
        if self.request.headers.get("Authorization") != "Bearer ada":
            raise HTTPError(401)
        self.finish({"code": "OK", "groups": [json.loads(self.request.body)["request"]["path"].strip("/")]})

    def put(self):
        is_text = self.request.headers["Content-Type"].startswith("text/")
        self.set_header("Ws-Reply", "text" if is_text else "binary")
        self.finish(self.request.body)

    def delete(self):
        self.finish({"code": str(json.loads(self.request.body)["code"])})


async def main():
    Application([("/hook", Hook)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
