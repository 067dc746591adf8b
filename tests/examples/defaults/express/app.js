// Express with its defaults. It is started by:
// wsaas dev --no-check -- node app.js
import express from 'express';

const app = express();
const raw = express.raw({ type: () => true });

app.put('/raw', raw, (req, res) => res.send(`${req.body.length}`));
app.put('/parsed-first', express.json(), raw, (req, res) => res.json(Buffer.isBuffer(req.body)));
const keep = (req, _res, body) => { req.rawBody = body; };
app.put('/kept', express.json({ verify: keep }), (req, res) => res.send(req.rawBody));

app.use(express.json());
app.all('/websocket', (req, res) => {
  if (req.method === 'PUT') res.set('Ws-Reply', 'text').send(`${req.body.n + 1}`);
  else res.json({ code: 'OK' });
});
app.put('/body', (req, res) => res.json({ body: req.body ?? null }));
app.post('/slash/', (req, res) => res.send('found'));
app.get('/without-methods', (req, res) => res.send('found'));

app.listen(process.env.PORT, 'localhost');
