import assert from "node:assert/strict";
import axios from "axios";

const wsUri = `http://${process.argv[2]}`;
await axios.put(wsUri, "Grüße", { headers: { "Content-Type": "text/plain; charset=utf-8" } });
await axios.put(wsUri, { n: 1 });
await axios.put(wsUri, Buffer.from([255, 0]), { headers: { "Content-Type": "application/octet-stream" } });
assert.equal((await axios.get(wsUri)).data.state, "open");
await axios.delete(wsUri, { data: { code: 4000, reason: "bye" } });
await assert.rejects(axios.put(wsUri, ""), { status: 410 });
