// The backend of a chat that was written for Socket.IO before. It is started by:
// wsaas dev --no-check --heartbeat=ping=pong --browser-authorization=query:token -- node app.js
import express from 'express';

const { CONTROL_TOKEN, PORT, WS_HOSTNAME } = process.env;
const ROOM = /^[\w-]{1,64}$/; // what a client names becomes a part of a URL and of a header
const MAX_TEXT = 4000; // a publish that is larger than MAX_MESSAGE_SIZE would fail each time
const app = express();

// io.to(room).emit(name, ...values)
async function emit(room, name, ...values) {
  const answer = await fetch(`http://${WS_HOSTNAME}/groups/${room}`, {
    method: 'PUT',
    headers: { 'Authorization': `Bearer ${CONTROL_TOKEN}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ name, values }),
  });
  if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`); // Express answers 500: it comes again
}

// socket.on(name, (...values) => result): an event of a client, and what it is acknowledged with. Clients choose
// the name: a plain object would have a listener for 'constructor', too.
const listeners = new Map(Object.entries({
  join: (user, res, room) => void res.set('Ws-Join', room),
  leave: (user, res, room) => void res.set('Ws-Leave', room),
  say: async (user, res, room, text) => {
    if (typeof text !== 'string' || text.length > MAX_TEXT) return { error: 'no text, or too long' };
    await emit(room, 'said', { user, room, text });
    return { ok: true };
  },
}));

app.route('/websocket').all(express.text({ type: () => true, limit: '1mb' }))
  // io.use((socket, next) => …) and io.on('connection', …)
  .post((req, res) => {
    if (req.get('authorization') === 'Bearer ada-token') res.json({ code: 'OK', context: 'ada', groups: ['lobby'] });
    else res.json({ code: 'UNAUTHORIZED', close: { code: 4401, reason: 'log in first' } });
  })
  .put(async (req, res) => {
    let id, name, values, room;
    try {
      ({ id, name, values } = JSON.parse(req.body));
      [room] = values;
    } catch {
      return res.set('Ws-Close', '4400 expected an event').end(); // Express would answer 500, and it would come again
    }
    const listener = listeners.get(name);
    let result;
    if (!listener) result = { error: 'no such event' };
    else if (typeof room !== 'string' || !ROOM.test(room)) result = { error: 'no such room' };
    else result = await listener(req.get('ws-context'), res, ...values);
    res.set('Ws-Reply', 'text').json({ id, result });
  })
  // socket.on('disconnect', (reason) => …)
  .delete((req, res) => {
    console.log(`${req.get('ws-context')} left: ${JSON.parse(req.body).code}`);
    res.end();
  });

app.listen(PORT, 'localhost').keepAliveTimeout = 80_000;
