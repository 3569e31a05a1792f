/**
 * npm's `eventsource` and `eventsource-parser` on the feed: `node real_clients.mjs MODULES URL TICKET TOKEN`.
 *
 * Each writes the events it hears as JSON lines, {client, event, id, data}; `eventsource` goes on after a break.
 */

import { createRequire } from "node:module";

const [modules, url, ticket, token] = process.argv.slice(2);
const require = createRequire(`${modules}/node_modules/`);
const { EventSource } = require("eventsource");
const { createParser } = require("eventsource-parser");

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const source = new EventSource(`${url}/v1/works/feed?ticket=${ticket}`);
for (const name of ["init", "reset", "change", "bye"]) {
  source.addEventListener(name, ({ data, lastEventId }) => {
    say({ client: "eventsource", event: name, id: lastEventId, data: JSON.parse(data) });
  });
}
source.addEventListener("error", ({ code }) => say({ client: "eventsource", event: "error", id: "", data: code ?? null }));

const parser = createParser({
  onEvent: ({ event, id, data }) => say({ client: "eventsource-parser", event, id, data: JSON.parse(data) }),
  onRetry: (ms) => say({ client: "eventsource-parser", event: "retry", id: "", data: ms }),
});
const response = await fetch(`${url}/v1/works/feed`, { headers: { Authorization: `Bearer ${token}` } });
const decoder = new TextDecoder();
try {
  for await (const chunk of response.body) parser.feed(decoder.decode(chunk, { stream: true }));
} catch { /* it does not come back by itself; that is its user's part */ }
