import falcon


class Hook:
    def on_post(self, request, response):
        if request.auth != "Bearer ada":
            raise falcon.HTTPUnauthorized
        response.media = {"code": "OK", "groups": [request.media["request"]["path"].strip("/")]}

    def on_put(self, request, response):
        response.data = request.bounded_stream.read()
        response.set_header("Ws-Reply", "text" if request.content_type.startswith("text/") else "binary")

    def on_delete(self, request, response):
        response.media = {"code": str(request.media["code"])}


app = falcon.App()
app.add_route("/hook", Hook())
