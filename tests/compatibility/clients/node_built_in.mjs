import { play } from "./scenario.mjs";

// It cannot send a header, as in a browser: the gateway takes the token from the query.
const open = (url, protocols) => new WebSocket(`${url}?access_token=ada`, protocols);
console.log(JSON.stringify(await play(process.argv[2], open)));
