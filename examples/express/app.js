// A backend in Express. It is started by:
// wsaas dev --header 'Authorization: Bearer ada-token' -- node app.js
import { createHmac, timingSafeEqual } from 'node:crypto';
import express from 'express';

const { API_SECRET, CONTROL_TOKEN, PORT, WS_HOSTNAME } = process.env;
const USERS = new Map([['Bearer ada-token', 'ada'], ['Bearer ben-token', 'ben']]); // in place of your users
const KEY = Buffer.from(API_SECRET.replace('whsec_', ''), 'base64');
// One client, or the group: CONTROL_TOKEN allows more than to push.
const allows = (to) => /^\/([\w-]{30}|groups\/lobby)$/.test(to.slice(WS_HOSTNAME.length)) && to.startsWith(WS_HOSTNAME);
const app = express();

function verify(req, res, next) {
  const [id, time, given] = ['id', 'timestamp', 'signature'].map((name) => req.get(`webhook-${name}`) ?? '');
  const signature = createHmac('sha256', KEY).update(`${id}.${time}.`).update(req.body ?? '').digest('base64');
  const expected = Buffer.from(`v1,${signature}`);
  const isEqual = (each) => each.length === expected.length && timingSafeEqual(Buffer.from(each, 'latin1'), expected);
  if (KEY.length && Math.abs(Date.now() / 1000 - time) < 300 && given.split(' ').some(isEqual)) next();
  else res.status(401).json({ code: 'UNAUTHORIZED' });
}

function authenticate(req, res, next) {
  req.user = USERS.get(req.get('authorization'));
  if (req.user) next();
  else res.status(401).json({ code: 'UNAUTHORIZED' });
}

// Before app.use(express.json()): the signature is computed over the raw body.
app.use(['/websocket', '/notify'], express.raw({ type: () => true, limit: '1mb' }));
app.route('/websocket').all(verify)
  .post(authenticate, (req, res) => res.json({ code: 'OK', context: req.user, groups: ['lobby'] }))
  .put((req, res) => {
    if (req.body.toString() === 'bye') res.set('Ws-Close', '4000 bye').end();
    else res.set('Ws-Reply', req.is('application/octet-stream') ? 'binary' : 'text').send(req.body);
  })
  .delete((req, res) => {
    console.log(`${req.get('ws-context')} left: ${JSON.parse(req.body).code}`);
    res.end();
  });

app.post('/notify', authenticate, async (req, res) => {
  const { to = `${WS_HOSTNAME}/groups/lobby` } = req.query;
  if (!allows(to)) return res.sendStatus(400);
  const headers = { authorization: `Bearer ${CONTROL_TOKEN}`, 'content-type': 'text/plain' };
  const answer = await fetch(`http://${to}`, { method: 'PUT', headers, body: req.body });
  res.sendStatus(answer.status);
});

app.listen(PORT, 'localhost').keepAliveTimeout = 80_000; // longer than KEEP_ALIVE_TIMEOUT of the gateway
