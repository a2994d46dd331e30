// Serves the built console and a cluster that exists in words only, as docs/internals/console-api.md says.
//   node mock/server.mjs [PORT]      then http://127.0.0.1:7780/, admin / practice-admin
// POST /mock {scene, daemon, cut, setup} changes the scene (for tests).

import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { answer, Refusal } from './api.mjs';
import { told, World } from './world.mjs';

const DIST = new URL('../../target/console/', import.meta.url).pathname;
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
/** The policy the real server must send, too. */
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; " +
  "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const LONGEST_BODY = 1024 * 1024;

export function start(port = 0) {
  const world = new World();
  const sessions = new Map();
  const state = { world, sessions, setup: false, cut: false, failures: 0, streams: new Set() };
  const server = createServer((request, response) => {
    handle(state, request, response).catch((error) => {
      if (error instanceof Refusal) json(response, error.status, { problem: error.message, kind: error.kind, ...error.more }, error.headers);
      else json(response, 500, { problem: String(error), kind: 'other' });
    });
  });
  return new Promise((resolve) => {
    server.listen(port, '127.0.0.1', () => {
      const url = `http://127.0.0.1:${server.address().port}`;
      const stop = () => {
        world.reset('well');
        for (const stream of state.streams) stream.destroy();
        server.closeAllConnections();
        return new Promise((done) => server.close(done));
      };
      resolve({ url, world, stop });
    });
  });
}

async function handle(state, request, response) {
  const url = new URL(request.url, 'http://mock');
  const language = (url.searchParams.get('lang') ?? request.headers['accept-language'] ?? 'en').startsWith('zh') ? 'zh' : 'en';
  const body = ['POST', 'PUT'].includes(request.method) ? await read(request) : {};
  if (url.pathname === '/mock') return scene(state, body, response);
  if (!url.pathname.startsWith('/api/v1/')) return file(url.pathname, request, response);
  if (state.cut) return request.destroy();
  const path = url.pathname.slice('/api/v1'.length);
  if (path === '/stream') return stream(state, session(state, request), language, response);
  const call = { method: request.method, path, query: url.searchParams, body, language };
  const { status = 200, data, headers } = answer(state, call, () => session(state, request), request);
  return json(response, status, data === undefined ? undefined : told(data, language), headers);
}

function session(state, request) {
  if (state.setup) throw new Refusal(401, 'unauthenticated', 'not logged in', { setup: true });
  const cookie = /hotpair_session=([a-z0-9]+)/.exec(request.headers.cookie ?? '')?.[1];
  const found = cookie && state.sessions.get(cookie);
  if (!found || !state.world.accounts.has(found.name)) throw new Refusal(401, 'unauthenticated', 'not logged in');
  return { ...found, cookie };
}

function scene(state, body, response) {
  if (body.scene) state.world.reset(body.scene);
  if ('setup' in body) state.setup = body.setup;
  if ('daemon' in body) {
    state.world.daemon = { running: body.daemon, problem: body.daemon ? null : "hotpair's daemon does not run on this node" };
    state.world.changed();
  }
  if ('cut' in body) {
    state.cut = body.cut;
    if (body.cut) for (const open of state.streams) open.destroy();
  }
  if (body.revision) {
    state.world.revision = body.revision;
    state.world.changed();
  }
  if (body.logout) state.sessions.clear();
  if ('failures' in body) state.failures = body.failures;
  return json(response, 200, {});
}

function stream(state, me, language, response) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  const send = (event, data) => response.write(`event: ${event}\ndata: ${JSON.stringify(told(data, language))}\n\n`);
  send('status', state.world.status());
  send('mirrors', state.world.mirrors);
  send('daemon', state.world.daemon);
  const comment = setInterval(() => response.write(': still here\n\n'), 15_000);
  state.world.listeners.add(send);
  state.streams.add(response);
  response.on('close', () => {
    clearInterval(comment);
    state.world.listeners.delete(send);
    state.streams.delete(response);
  });
}

async function read(request) {
  let text = '';
  for await (const chunk of request) {
    text += chunk;
    if (text.length > LONGEST_BODY) throw new Refusal(413, 'bad_request', 'the body is too long');
  }
  try {
    return text ? JSON.parse(text) : {};
  } catch {
    throw new Refusal(400, 'bad_request', 'the body is not JSON');
  }
}

function json(response, status, data, headers = {}) {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store', ...headers });
  response.end(data === undefined ? undefined : JSON.stringify(data));
}

function file(path, request, response) {
  const name = normalize(path === '/' ? '/index.html' : path);
  const full = join(DIST, name);
  if (!full.startsWith(DIST) || !existsSync(full) || !statSync(full).isFile()) {
    return json(response, 404, { problem: 'no such file', kind: 'not_found' });
  }
  const packed = existsSync(`${full}.br`) && /\bbr\b/.test(request.headers['accept-encoding'] ?? '');
  response.writeHead(200, {
    'Content-Type': TYPES[extname(full)] ?? 'application/octet-stream',
    'Content-Security-Policy': POLICY,
    'X-Content-Type-Options': 'nosniff',
    ...(packed ? { 'Content-Encoding': 'br' } : {}),
  });
  return createReadStream(packed ? `${full}.br` : full).pipe(response);
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const { url } = await start(Number(process.argv[2] ?? 7780));
  console.log(`${url}/  admin / practice-admin, wang / practice-wang, li / practice-li`);
}
