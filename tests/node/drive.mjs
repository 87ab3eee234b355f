// IBM's SDK, told what to call: one command a line on stdin, one answer a line on stdout, both JSON.
//
// {"auth": "basic", "url": …, "apikey": …, "method": "createJob", "params": {"audio": {"stream": PATH}, …}}
// gives {"status": …, "result": …, "headers": …}, or {"error": {"code": …, "message": …, "body": …}}.

import { createReadStream, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

import {
  BasicAuthenticator,
  BearerTokenAuthenticator,
  CloudPakForDataAuthenticator,
  IamAuthenticator,
} from 'ibm-watson/auth/index.js';
import SpeechToTextV1 from 'ibm-watson/speech-to-text/v1.js';

const AUTHENTICATORS = {
  basic: ({ username = 'apikey', apikey }) => new BasicAuthenticator({ username, password: apikey }),
  bearer: ({ token }) => new BearerTokenAuthenticator({ bearerToken: token }),
  iam: ({ apikey, authUrl, ...more }) => new IamAuthenticator({ ...more, apikey, url: authUrl }),
  cp4d: ({ username, apikey, password, authUrl }) =>
    new CloudPakForDataAuthenticator({ username, apikey, password, url: authUrl }),
  // The SDK finds everything else in the environment by itself.
  environment: () => undefined,
};

const services = new Map();

// Kept from one command to the next, as a client keeps it: with the service goes its token.
function serviceOf({ auth, url, gzip, ...credentials }) {
  const key = JSON.stringify([auth, url, gzip, credentials]);
  if (!services.has(key)) {
    const options = { authenticator: AUTHENTICATORS[auth]({ authUrl: url, ...credentials }) };
    if (url) options.serviceUrl = url;
    if (gzip) options.enableGzipCompression = true;
    services.set(key, new SpeechToTextV1(options));
  }
  return services.get(key);
}

function withAudio({ audio, ...params }) {
  if (audio?.stream) return { ...params, audio: createReadStream(audio.stream) };
  if (audio?.buffer) return { ...params, audio: readFileSync(audio.buffer) };
  return params;
}

async function answer({ method, params = {}, ...service }) {
  try {
    const { status, result, headers } = await serviceOf(service)[method](withAudio(params));
    return { status, result, headers };
  } catch ({ code, message, body, headers }) {
    return { error: { code, message, body, headers } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
// A connection that is kept alive would keep this alive, too.
process.exit();
