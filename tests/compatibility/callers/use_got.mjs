import assert from "node:assert/strict";
import got from "got";

const wsUri = `http://${process.argv[2]}`;
await got.put(wsUri, { body: "Grüße", headers: { "Content-Type": "text/plain; charset=utf-8" } });
await got.put(wsUri, { json: { n: 1 } });
await got.put(wsUri, { body: Buffer.from([255, 0]), headers: { "Content-Type": "application/octet-stream" } });
assert.equal((await got(wsUri).json()).state, "open");
await got.delete(wsUri, { json: { code: 4000, reason: "bye" } });
await assert.rejects(got.put(wsUri, { body: "" }), { code: "ERR_NON_2XX_3XX_RESPONSE" });
