/**
 * npm's `eventsource` alone: `node event_source.mjs MODULES URL`.  One JSON line for each event, {event, data, state}.
 */

import { createRequire } from "node:module";

const [modules, url] = process.argv.slice(2);
const { EventSource } = createRequire(`${modules}/node_modules/`)("eventsource");
const source = new EventSource(url);
const say = (event, data) => process.stdout.write(`${JSON.stringify({ event, data, state: source.readyState })}\n`);
for (const name of ["init", "reset", "change", "away"]) source.addEventListener(name, ({ data }) => say(name, JSON.parse(data)));
source.addEventListener("error", ({ code }) => say("error", code ?? null));
