// A client of examples/from-socketio, run in its folder: prints what happens as lines of JSON.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const folder = process.cwd();
const WebSocket = createRequire(path.join(folder, 'app.js'))('ws');
const { Events } = await import(pathToFileURL(path.join(folder, 'events.js')));
const show = (...values) => console.log(JSON.stringify(values));
const socket = new WebSocket(process.argv[2]);
await new Promise((resolve) => socket.addEventListener('open', resolve));
const events = new Events(socket);
events.on('said', (event) => show('said', event));
show('acknowledged', await events.emit('say', 'lobby', 'hello'));
show('acknowledged', await events.emit('say', 'tea', 'nobody hears this'));
await events.emit('join', 'tea');
await events.emit('leave', 'lobby');
show('acknowledged', await events.emit('say', 'tea', 'Grüße'));
show('acknowledged', await events.emit('say', 'lobby', 'not for me any more'));
show('acknowledged', await events.emit('say', '../connections', 'for everybody'));
show('acknowledged', await events.emit('join', 'a, b'));
show('acknowledged', await events.emit('join'));
show('acknowledged', await events.emit('say', 'tea', 'x'.repeat(4001)));
show('acknowledged', await events.emit('constructor', 'tea'));
const ended = new Promise((resolve) => socket.addEventListener('close', resolve));
const unanswered = events.emit('leave', 'tea').then(() => events.emit('say', 'tea', 'the end')).then(() => 'answered');
socket.close();
show('closed', (await ended).code, await unanswered.catch((error) => error.message));
show('emitted', await events.emit('leave', 'tea').catch((error) => error.message));
