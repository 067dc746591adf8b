// A backend in Fastify. It is started by:
// wsaas dev --header 'Authorization: Bearer ada-token' -- node app.js
import { createHmac, timingSafeEqual } from 'node:crypto';
import Fastify from 'fastify';

const { API_SECRET, CONTROL_TOKEN, PORT, WS_HOSTNAME } = process.env;
const USERS = new Map([['Bearer ada-token', 'ada'], ['Bearer ben-token', 'ben']]); // in place of your users
const KEY = Buffer.from(API_SECRET.replace('whsec_', ''), 'base64');
// One client, or the group: CONTROL_TOKEN allows more than to push.
const allows = (to) => /^\/([\w-]{30}|groups\/lobby)$/.test(to.slice(WS_HOSTNAME.length)) && to.startsWith(WS_HOSTNAME);
const app = Fastify({ bodyLimit: 1_048_576, keepAliveTimeout: 80_000 }); // MAX_MESSAGE_SIZE; > KEEP_ALIVE_TIMEOUT

async function verify({ headers, body }, reply) {
  const { 'webhook-id': id, 'webhook-timestamp': time, 'webhook-signature': given = '' } = headers;
  const signature = createHmac('sha256', KEY).update(`${id}.${time}.`).update(body ?? '').digest('base64');
  const expected = Buffer.from(`v1,${signature}`);
  const isEqual = (each) => each.length === expected.length && timingSafeEqual(Buffer.from(each, 'latin1'), expected);
  const isValid = KEY.length && Math.abs(Date.now() / 1000 - time) < 300 && given.split(' ').some(isEqual);
  if (!isValid) return reply.code(401).send({ code: 'UNAUTHORIZED' });
}

app.register(async (scope) => {
  // Only in this scope, the body is not parsed: the signature is computed over the raw one.
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', { parseAs: 'buffer' }, async (request, body) => body);

  scope.post('/websocket', { preHandler: verify }, async ({ headers }, reply) => {
    const user = USERS.get(headers.authorization);
    if (!user) return reply.code(401).send({ code: 'UNAUTHORIZED' });
    return { code: 'OK', context: user, groups: ['lobby'] };
  });
  scope.put('/websocket', { preHandler: verify }, async ({ headers, body }, reply) => {
    if (body.toString() === 'bye') return reply.header('ws-close', '4000 bye').send();
    const isText = headers['content-type'] !== 'application/octet-stream';
    return reply.header('ws-reply', isText ? 'text' : 'binary').send(body);
  });
  scope.delete('/websocket', { preHandler: verify }, async ({ headers, body }) => {
    console.log(`${headers['ws-context']} left: ${JSON.parse(body).code}`);
    return { code: 'OK' };
  });
  scope.post('/notify', async ({ headers, query, body }, reply) => {
    if (!USERS.has(headers.authorization)) return reply.code(401).send({ code: 'UNAUTHORIZED' });
    const { to = `${WS_HOSTNAME}/groups/lobby` } = query;
    if (!allows(to)) return reply.code(400).send();
    const sent = { authorization: `Bearer ${CONTROL_TOKEN}`, 'content-type': 'text/plain' };
    const answer = await fetch(`http://${to}`, { method: 'PUT', headers: sent, body });
    return reply.code(answer.status).send();
  });
});

await app.listen({ port: PORT, host: 'localhost' });
