require "eventmachine"
require "faye/websocket"
require "json"

url = ARGV[0]
every = (0..255).to_a
messages = ["Grüße 🎉", "", every, [], every * 4096]
script = messages + %w[push bye]
received = []

EM.run do
  socket = Faye::WebSocket::Client.new(url, ["chat"], headers: { "Authorization" => "Bearer ada" })
  send_next = -> { socket.send(script.shift) }
  socket.on(:open) { send_next.call }
  socket.on(:message) do |event|
    received << event.data
    send_next.call
  end
  socket.on(:close) do |event|
    *echoes, pushed = received
    refused = Faye::WebSocket::Client.new("#{url}refused")
    refused.on(:close) do
      puts JSON.generate(
        subprotocol: socket.protocol, same: echoes.zip(messages).map { |echo, sent| echo == sent }, pushed: pushed,
        close: [event.code, event.reason], refused: refused.status
      )
      EM.stop
    end
  end
end
