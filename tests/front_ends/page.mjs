/**
 * Lives through one page as a phone does: `node page.mjs '{"page": FILE, "module": FILE, "settings": {…}, …}'`.
 *
 * Of the page's text one line is changed, the one that makes `db`, as the documents say.  It writes a JSON line for each
 * {works} that the page shows, each {toast}, each {error} that it prints, and each {result} of what it was told to do.
 * Lines that it reads: {do: "call", name, args}, {do: "db", path}, {do: "happens", what, value}, {do: "domains", value}.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";

import { makeWx } from "./fake_wx.mjs";

const THEIR_LINE = "const db = wx.cloud.database()", OUR_LINE = "const db = app.db";

const { page: file, module, settings, token, openid, domains } = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const phone = makeWx();
phone.domains = domains ?? null;
for (const name of ["TextDecoder", "fetch", "AbortController", "atob", "BroadcastChannel"]) delete globalThis[name];

let page;
const { database } = createRequire(import.meta.url)(module);
const app = { globalData: { userInfo: { openid } }, db: database({ ...settings, token, wx: phone }) };
Object.assign(globalThis, {
  getApp: () => app,
  Page: (given) => { page = given; },
  wx: { ...phone, showToast: ({ title }) => say({ toast: title }) },
});
console.error = (...all) => say({ error: all.map((each) => each?.errMsg ?? String(each)).join(" ") });
process.on("unhandledRejection", (error) => say({ rejected: String(error?.errMsg ?? error) }));

const text = readFileSync(file, "utf8");
if (text.split(THEIR_LINE).length !== 2) throw new Error(`not one line says: ${THEIR_LINE}`);
const copy = path.join(path.dirname(module), `page-${process.pid}.cjs`);
writeFileSync(copy, text.replace(THEIR_LINE, OUR_LINE));
createRequire(import.meta.url)(copy);

page.setData = function (changed) {
  Object.assign(this.data, JSON.parse(JSON.stringify(changed)));  // it crosses to another thread on a phone
  say({ works: this.data.works });
};
page.onLoad();

const told = (promise) => promise.then((result) => say({ result: result ?? null }),
  (error) => say({ result: { refused: error.errMsg ?? error.message, kind: error.kind } }));
const acts = {
  call: ({ name, args = [] }) => told(Promise.resolve(page[name](...args))),
  /** {path: [["collection", "works"], ["get"]]}: one call after the other. */
  db: ({ path: calls }) => told((async () => calls.reduce((on, [name, ...args]) => on[name](...args), app.db))()),
  /** The same, but the last call is told what to do with what comes of it. */
  callbacks: ({ path: calls }) => {
    const [name, options] = calls[calls.length - 1], came = [];
    const on = calls.slice(0, -1).reduce((each, [step, ...args]) => each[step](...args), app.db);
    const noted = (what) => (value) => {
      came.push([what, value.errMsg]);
      if (what === "complete") say({ result: { returned: String(returned), came } });
    };
    const returned = on[name]({ ...options, success: noted("success"), fail: noted("fail"), complete: noted("complete") });
  },
  happens: ({ what, value }) => phone.happens(what, value),
  domains: ({ value }) => { phone.domains = value; },
};
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const wanted = JSON.parse(line);
  acts[wanted.do](wanted);
}).on("close", () => process.exit(0));
say({ ready: true });
