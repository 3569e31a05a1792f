/**
 * The client as a program, driven by a test: `node watcher.mjs '{"module": …, "settings": …}'`.
 *
 * It writes one JSON line for everything the client tells: {snapshot}, {state}, {error}, {result}, {asked}.  It reads
 * one JSON line for everything to do: {do: "watch" | "close" | "call" | "happens" | "tokens", …}.
 */

import { createRequire } from "node:module";
import readline from "node:readline";

import { makeWx } from "./fake_wx.mjs";

const { module, settings = {}, tokens = [], wx } = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const phone = wx && makeWx(wx);
if (phone) for (const name of ["TextDecoder", "fetch", "AbortController", "atob", "BroadcastChannel"]) delete globalThis[name];

const client = module.endsWith(".mjs") ? await import(module) : createRequire(import.meta.url)(module);
const token = tokens.length < 2 ? tokens[0] : ({ fresh }) => {
  say({ asked: fresh });
  return tokens.length > 1 ? tokens.shift() : tokens[0];
};
const db = client.database({ ...settings, token, wx: phone });
const watchers = {};

function watch({ name = "main", where = {}, orders = [], limit }) {
  let query = db.collection("works").where(meant(where));
  for (const [field, direction] of orders) query = query.orderBy(field, direction);
  if (limit) query = query.limit(limit);
  watchers[name] = query.watch({
    onChange: (snapshot) => say({ name, snapshot }),
    onError: (error) => say({ name, error: { status: error.errCode, kind: error.kind, message: error.errMsg } }),
    onState: (state) => say({ name, state }),
  });
}

/** {"status": {"$in": [...]}} as {status: db.command.in([...])}. */
function meant(where) {
  return Object.fromEntries(Object.entries(where).map(([field, value]) => {
    const [name] = value && typeof value === "object" ? Object.keys(value) : [""];
    return [field, name.startsWith("$") ? db.command[name.slice(1)](value[name]) : value];
  }));
}

const acts = {
  watch,
  close: ({ name = "main" }) => watchers[name].close(),
  happens: ({ what, value }) => phone.happens(what, value),
  call: ({ method, args }) => db[method](...args).then(
    (result) => say({ method, result }),
    (error) => say({ method, error: { status: error.status, kind: error.kind, message: error.message } })),
  running: () => say({ running: phone.running.size }),
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const wanted = JSON.parse(line);
  acts[wanted.do](wanted);
}).on("close", () => process.exit(0));
say({ ready: true });
