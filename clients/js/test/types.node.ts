// Not run: without the types of browsers.
import WebSocket from "ws";
import { ReconnectingWebSocket } from "wsaas-client";

const client = new ReconnectingWebSocket("ws://localhost:8080/", { WebSocket, binaryType: "nodebuffer" });
client.addEventListener("message", ({ data }) => client.send(data));
client.addEventListener("close", ({ willReconnect, error }) => console.log(willReconnect, error));
client.send(Buffer.from("text"));
