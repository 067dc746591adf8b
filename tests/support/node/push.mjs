// Pushes to one client with fetch, looks at it, closes it; prints what it was answered as JSON.
const uri = process.argv[2];
const seen = [];

const call = async (method, body, type) => {
  const response = await fetch(uri, { method, body, headers: type ? { "content-type": type } : {} });
  const answer = await response.json();
  seen.push(method === "GET" && response.ok ? answer.state : response.status);
};

await call("PUT", "text", "text/plain");
await call("PUT", JSON.stringify({ json: true }), "application/json");
await call("PUT", new Uint8Array([0, 1, 2]), "application/octet-stream");
await call("GET");
await call("DELETE", JSON.stringify({ code: 4000 }), "application/json");
for (let tries = 0; tries < 1000 && seen.length < 6; tries++) {
  const response = await fetch(uri);
  const { state } = await response.json();
  if (state !== "closing") seen.push(response.status);
}
console.log(JSON.stringify(seen));
