// A backend whose clients are pages in browsers, with a session or a one-time ticket. It is started by:
// wsaas dev --no-check -- node app.js
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import express from 'express';

const { API_SECRET, PORT } = process.env;
const KEY = Buffer.from(API_SECRET.replace('whsec_', ''), 'base64');
const TICKET_MS = 60_000;
const passwords = new Map([['ada', 'lovelace'], ['ben', 'franklin']]); // in place of your users
const sessions = new Map(); // in place of your store of sessions, which all processes share
const tickets = new Map(); // user, end, and the event that has used the ticket
const newToken = () => randomBytes(32).toString('base64url');
const app = express();

app.post('/login', express.json(), (req, res) => {
  // A form of another site has another type. That site could make its visitors log in as somebody else.
  if (!req.is('json')) return res.status(415).json({ code: 'UNSUPPORTED_MEDIA_TYPE' });
  const { user, password } = req.body;
  if (!password || passwords.get(user) !== password) return res.status(401).json({ code: 'WRONG_PASSWORD' });
  const session = newToken();
  sessions.set(session, user);
  res.cookie('session', session, { httpOnly: true, sameSite: 'lax' }); // add secure: true where there is TLS
  res.json({ code: 'OK' });
});

app.post('/ticket', (req, res) => {
  const user = sessions.get(/(?:^|; )session=([^;]*)/.exec(req.get('cookie') ?? '')?.[1]);
  if (!user) return res.status(401).json({ code: 'UNAUTHORIZED' });
  for (const [each, { end }] of tickets) if (end < Date.now()) tickets.delete(each);
  const ticket = newToken();
  tickets.set(ticket, { user, end: Date.now() + TICKET_MS });
  res.json({ ticket });
});

// Returns whose session or unused ticket it is. The same event may come twice, if its answer was lost.
function userOf(token, event) {
  if (sessions.has(token)) return sessions.get(token);
  const ticket = tickets.get(token);
  if (!ticket || ticket.end < Date.now() || (ticket.usedBy ?? event) !== event) return undefined;
  ticket.usedBy = event;
  return ticket.user;
}

function verify(req, res, next) {
  const [id, time, given] = ['id', 'timestamp', 'signature'].map((name) => req.get(`webhook-${name}`) ?? '');
  const signature = createHmac('sha256', KEY).update(`${id}.${time}.`).update(req.body ?? '').digest('base64');
  const expected = Buffer.from(`v1,${signature}`);
  const isEqual = (each) => each.length === expected.length && timingSafeEqual(Buffer.from(each, 'latin1'), expected);
  if (KEY.length && Math.abs(Date.now() / 1000 - time) < 300 && given.split(' ').some(isEqual)) next();
  else res.status(401).json({ code: 'UNAUTHORIZED' });
}

app.route('/websocket').all(express.raw({ type: () => true, limit: '1mb' }), verify)
  .post((req, res) => {
    const user = userOf(req.get('authorization')?.replace('Bearer ', ''), req.get('ce-id'));
    if (user) res.json({ code: 'OK', context: user, groups: [`user:${user}`] });
    else res.json({ code: 'UNAUTHORIZED', close: { code: 4401, reason: 'log in first' } });
  })
  .put((req, res) => res.set('Ws-Reply', 'text').send(`${req.get('ws-context')}: ${req.body}`))
  .delete((req, res) => res.end());

app.listen(PORT, 'localhost').keepAliveTimeout = 80_000; // longer than KEEP_ALIVE_TIMEOUT of the gateway
