// Receives notifications and believes only what it can verify, in the two ways that receivers do it.
//
// Prints {"port": …}, and then what it makes of each request, a line of JSON each. On stdin it takes `replay` (take the
// last notification for one that comes ten minutes later) and `answer STATUS` (to the next request, whatever it is).

import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

import { Webhook } from 'standardwebhooks';

const { secret, hash } = parseArgs({
  options: { secret: { type: 'string', default: '' }, hash: { type: 'string', default: 'sha256' } },
}).values;

const REPLAYED_AFTER = 10 * 60 * 1000;

let captured;
let nextStatus;

const print = (outcome) => console.log(JSON.stringify(outcome));

function isSigned(message, signature = '') {
  const expected = Buffer.from(createHmac(hash, secret).update(message).digest('base64'));
  const given = Buffer.from(signature);
  return given.length === expected.length && timingSafeEqual(given, expected);
}

// Not over the bytes that came: a receiver that is handed the parsed body has only this.
function isSignedAsParsed(body, signature) {
  try {
    return isSigned(JSON.stringify(JSON.parse(body)), signature);
  } catch {
    return false;
  }
}

function verifiedByLibrary(body, headers) {
  try {
    new Webhook(`whsec_${Buffer.from(secret, 'utf8').toString('base64')}`).verify(body, headers);
    return { valid: true };
  } catch ({ message }) {
    return { valid: false, reason: message };
  }
}

function challenged({ url, headers }) {
  const challenge = new URL(url, 'http://receiver').searchParams.get('challenge_string');
  const signed = challenge !== null && isSigned(challenge, headers['x-callback-signature']);
  const status = challenge !== null && (signed || !secret) ? 200 : 403;
  return { status, reply: status === 200 ? challenge : 'no', challenge, signed };
}

function notified({ headers }, body) {
  captured = { body, headers };
  const signed = isSignedAsParsed(body, headers['x-callback-signature']);
  return { status: signed || !secret ? 200 : 403, body, signed, webhook: verifiedByLibrary(body, headers) };
}

function replay() {
  if (!captured) return { valid: false, reason: 'nothing has come yet' };
  const now = Date.now;
  Date.now = () => now() + REPLAYED_AFTER;
  try {
    return verifiedByLibrary(captured.body, captured.headers);
  } finally {
    Date.now = now;
  }
}

const server = createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const made = request.method === 'GET' ? challenged(request) : notified(request, Buffer.concat(pieces).toString());
  const { reply = '', status, ...outcome } = nextStatus ? { ...made, status: nextStatus } : made;
  nextStatus = undefined;
  response.writeHead(status, { 'Content-Type': 'text/plain' }).end(reply);
  print({ method: request.method, url: request.url, headers: request.headers, status, ...outcome });
});

server.listen(0, '127.0.0.1', () => print({ port: server.address().port }));

for await (const line of createInterface({ input: process.stdin })) {
  const [command, argument] = line.split(' ');
  if (command === 'replay') print({ replay: replay() });
  if (command === 'answer') print({ answer: (nextStatus = Number(argument)) });
}
process.exit();
