/**
 * Lives through the example mini-program as a phone does: `node mini_program.mjs FOLDER SERVER CODE PHOTO`.
 *
 * `App`, `Page`, `getApp` and `wx` are what WeChat gives; the network is real.  It orders a picture, watches it to its
 * end, and writes what the page showed as JSON lines.
 */

import { createRequire } from "node:module";
import path from "node:path";

import { makeWx } from "./fake_wx.mjs";

const [folder, server, code, photo] = process.argv.slice(2);
const ITS_SERVER = "https://pictures.example.com";
const phone = makeWx();
const there = (options) => ({ ...options, url: options.url.replace(ITS_SERVER, server) });

let app, page;
Object.assign(globalThis, {
  App: (given) => { app = given; },
  getApp: () => app,
  Page: (given) => { page = given; },
  wx: {
    ...phone,
    request: (options) => phone.request(jsonBody(there(options))),
    uploadFile: (options) => phone.uploadFile(there(options)),
    login: ({ success }) => success({ code }),
    chooseMedia: async () => ({ tempFiles: [{ tempFilePath: photo }] }),
  },
});
for (const name of ["TextDecoder", "fetch", "AbortController", "atob", "BroadcastChannel"]) delete globalThis[name];

/** `wx.request` sends an object as JSON. */
function jsonBody(options) {
  if (typeof options.data !== "object") return options;
  return { ...options, data: JSON.stringify(options.data), header: { "Content-Type": "application/json", ...options.header } };
}

const require = createRequire(import.meta.url);
require(path.join(folder, "app.js"));
require(path.join(folder, "pages/works/works.js"));

page.setData = function (changed) {
  Object.assign(this.data, JSON.parse(JSON.stringify(changed)));  // it crosses to another thread on a phone
  console.log(JSON.stringify({ ...this.data, toasts: phone.toasts }));
  const [work] = this.data.works;
  if (!this.isUnloaded && work && (work.pictures.length || work.error) && !this.data.isSending) {
    this.isUnloaded = true;
    this.onUnload();
    setTimeout(() => {
      console.log(JSON.stringify({ running: phone.running.size, toasts: phone.toasts }));
      process.exit(0);
    }, 100);
  }
};
page.onLoad();
await page.order();
