/**
 * What a mini-program has instead of a network: `wx.request` and `wx.uploadFile` over real HTTP, as phones do it.
 *
 * Chunks come as ArrayBuffers cut at any byte; answers of any status are a success, told at the end; an aborted request
 * fails; at most ten run at once; `TextDecoder`, `fetch` and `AbortController` are not there.
 *
 * Options: `canStream: false` is a base library before 2.20.2; `isSilent` is an iPhone, where a broken stream calls
 * nobody back; `cutAfterMs` is the phone's own end of a long request.
 */

import { readFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";

const MOST_REQUESTS = 10;
const SHORT_CHUNK_BYTES = 7;

export function makeWx({ canStream = true, isSilent = false, cutAfterMs = 0 } = {}) {
  const running = new Set(), listeners = {}, toasts = [];
  const listenTo = (name) => {
    listeners[name] = new Set();
    return { [`on${name}`]: (each) => listeners[name].add(each), [`off${name}`]: (each) => listeners[name].delete(each) };
  };

  function send(options, body, headers) {
    if (api.domains && !api.domains.includes(new URL(options.url).origin)) {
      const errMsg = "request:fail url not in domain list";
      setTimeout(() => { options.fail?.({ errMsg, errno: 600002 }); options.complete?.({ errMsg }); });
      return { abort() {}, onHeadersReceived() {}, onChunkReceived() {} };
    }
    if (running.size >= MOST_REQUESTS) throw new Error("request:fail exceed max task count 10");
    const on = { head: [], chunk: [] };
    let isOver = false;
    const finish = (name, result) => {
      if (isOver) return;
      isOver = true;
      running.delete(request);
      options[name]?.(result);
      options.complete?.(result);
    };
    const request = http.request(options.url, { method: options.method ?? "GET", headers }, (response) => {
      const received = [];
      const head = { statusCode: response.statusCode, header: response.headers };
      on.head.forEach((each) => each(head));
      response.on("data", (bytes) => {
        if (isOver) return;
        if (!options.enableChunked) received.push(bytes);
        else for (const piece of pieces(bytes)) if (!isOver) on.chunk.forEach((each) => each({ data: piece }));
      });
      response.on("end", () => {
        const text = Buffer.concat(received).toString();
        finish("success", { ...head, data: options.dataType === "text" || options.enableChunked ? text : JSON.parse(text) });
      });
      response.on("error", (error) => isSilent || finish("fail", { errMsg: `request:fail ${error.message}` }));
    });
    running.add(request);
    request.setTimeout(options.timeout ?? 60000, () => request.destroy(new Error("timeout")));
    request.on("error", (error) => finish("fail", { errMsg: `request:fail ${error.message}` }));
    request.end(body);
    const abort = () => {
      finish("fail", { errMsg: "request:fail abort" });
      request.destroy();
    };
    if (cutAfterMs && options.enableChunked) setTimeout(() => request.destroy(new Error("interrupted")), cutAfterMs).unref();
    return canStream
      ? { abort, onHeadersReceived: (each) => on.head.push(each), onChunkReceived: (each) => on.chunk.push(each) }
      : { abort };
  }

  const api = {
    domains: null,  // those that may be asked, as at mp.weixin.qq.com; null: all, as in the tools while one develops
    request: (options) => send(options, options.data, options.header),
    uploadFile(options) {
      const edge = "----fake-wx", name = path.basename(options.filePath);
      const head = `--${edge}\r\nContent-Disposition: form-data; name="${options.name}"; filename="${name}"\r\n`
        + "Content-Type: image/png\r\n\r\n";
      const body = Buffer.concat([Buffer.from(head), readFileSync(options.filePath), Buffer.from(`\r\n--${edge}--\r\n`)]);
      const header = { ...options.header, "Content-Type": `multipart/form-data; boundary=${edge}` };
      return send({ ...options, method: "POST", dataType: "text" }, body, header);
    },
    ...listenTo("AppShow"), ...listenTo("AppHide"), ...listenTo("NetworkStatusChange"),
    showToast: (toast) => toasts.push(toast.title),
    previewImage: () => {},
    toasts,
    happens: (name, value) => listeners[name].forEach((each) => each(value)),
    running,
  };
  return api;
}

/** The bytes as ArrayBuffers of their own, cut anywhere. */
function* pieces(bytes) {
  for (let at = 0; at < bytes.length;) {
    const length = bytes.length > 4096 ? 1021 : 1 + Math.floor(Math.random() * SHORT_CHUNK_BYTES);
    yield new Uint8Array(bytes.subarray(at, at + length)).buffer;
    at += length;
  }
}
