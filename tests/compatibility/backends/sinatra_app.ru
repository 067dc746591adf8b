require "json"
require "sinatra/base"

class Hook < Sinatra::Base
  post "/hook" do
    halt 401, '{"code": "UNAUTHORIZED"}' unless request.env["HTTP_AUTHORIZATION"] == "Bearer ada"
    JSON.generate(code: "OK", groups: [JSON.parse(request.body.read)["request"]["path"].delete("/")])
  end

  put "/hook" do
    headers "Ws-Reply" => request.media_type == "text/plain" ? "text" : "binary"
    request.body.read
  end

  delete "/hook" do
    JSON.generate(code: JSON.parse(request.body.read)["code"].to_s)
  end
end

run Hook
