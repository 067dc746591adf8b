// Fastify with its defaults. It is started by:
// wsaas dev --no-check -- node app.js
import Fastify from 'fastify';

const app = Fastify();

app.post('/websocket', async () => ({ code: 'OK' }));
app.delete('/websocket', async () => ({ code: 'OK' }));
app.put('/websocket', async ({ body }, reply) => reply.header('ws-reply', 'text').send(`${body.n + 1}`));
app.put('/body', async ({ body }) => ({ body: body ?? null }));
app.register(async (scope) => {
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', { parseAs: 'buffer' }, async (request, body) => body);
  scope.put('/raw', async ({ body }) => `${body.length}`);
});
app.post('/slash/', async () => 'found');
app.get('/without-methods', async () => 'found');
app.get('/keep-alive', async () => app.server.keepAliveTimeout);

await app.listen({ port: process.env.PORT, host: 'localhost' });
