/**
 * Darkroom for front ends: see every change of a user's works at once, and order pictures.  No dependencies, ES2017.
 *
 *     const db = database({ baseUrl: "https://pictures.example.com", token: () => myToken() });
 *     const watcher = db.collection("works").where({ user_openid }).watch({ onChange, onError });
 *
 * `watch` takes and gives what `wx.cloud.database()` does, so a page written for it changes one line.
 *
 * Terms.  *seq* counts a user's changes, without a gap; a *place* `<epoch>-<seq>` names how far one has read.  The
 * server is the authority for both.  Every change comes in by one door, `Connection._take`: it is applied if its seq
 * is the next one, dropped if it is old, and else makes us ask for what is missing.  So it does not matter how changes
 * arrive (stream, polling, another tab, two of these at once), or how often a link breaks: what is shown is the
 * server's state at some seq, and soon the newest.
 *
 * This file is an ES module for browsers.  The server gives the same as CommonJS for mini-programs, at
 * `/static/darkroom.cjs.js`.
 */

const DEFAULTS = {
  silenceMs: 45000,  // the stream beats every 15 s: three missed beats are a dead link
  firstBytesMs: 8000,  // the first bytes come at once; if they don't, somebody on the way collects them
  streamAgainMs: 60000,  // how long to poll before streaming is tried again; doubles up to `longestPollingMs`
  longestPollingMs: 900000,
  longestPauseMs: 30000,
  patienceMs: 60000,  // how long an order is tried again while nobody answers
  requestTimeoutMs: 20000,
  linksAtMostEveryMs: 600000,  // how often new links may be asked for, however short they live
  connectingMs: 8000,  // how long a page is left without a word that nothing comes
};
const FIRST_RETRY_MS = 1000;  // until the server names its own
const LEAST_PAUSE_MS = 500;  // between two questions of one kind, whatever makes us ask, and whatever the server names
const BACK_SOON_MS = 6000;  // a pause this long: after a restart, most are back in 3 s and all in 8
const PATIENT_AFTER = 10;  // pauses may be a tenth of the time for which nobody has answered: 30 s after 5 minutes
const HURRY_AT_MOST_EVERY_MS = 3000;
const PROBE_MS = 1500;
const MOST_RETRY_AFTER_SECONDS = 3600;  // and a timer that is set for longer than 24 days goes off at once
const POLL_WAIT_SECONDS = 25;
const ROTATE_SECONDS = 50;  // WeChat cuts a request after a minute, whatever time-out it is given
const SOON_MS = 1000;  // a server that names so short a wait has ended the stream by appointment
const STEADY_MS = 20000;  // a stream that has lived through a beat works
const UNSTEADY_STREAMS = 3;  // after so many in a row that did not, polling is the safer way
const BACKGROUND_CUT_MS = 5000;  // WeChat interrupts the requests of a mini-program that was hidden so long
const BEAT_MS = 10000;  // how often a leading tab says that it lives
const LOOK_FOR_SILENCE_MS = 5000;
const LINK_MARGIN_MS = 300000;
const LINKS_AT_LEAST_EVERY_MS = 6 * 3600000;
const OPENING_DOCS = 100;  // what `init` holds at most
const MOST_DOCS = 5000;  // what a watch holds at most, as CloudBase's
const UNREACHABLE = "Darkroom can't be reached just now.";
const RETRIED = new Set([0, 408, 425, 502, 503, 504]);

// ---------------------------------------------------------------- errors

/** An answer that says no, or none at all. */
class DarkroomError extends Error {
  /**
   * @param {number} status the HTTP status; 0 where nobody answered
   * @param {string} message a sentence for people
   * @param {{kind?: string, errors?: {pointer: string, detail: string}[], retryAfter?: number}} [more]
   */
  constructor(status, message, more) {
    super(message);
    const { kind = "", errors = [], retryAfter = 0 } = more || {};
    this.name = "DarkroomError";
    this.status = status;
    this.kind = kind;  // a short name for programs, such as "insufficient_credits"
    this.errors = errors;
    this.retryAfter = retryAfter;  // seconds
    this.errCode = status;  // as CloudBase names them
    this.errMsg = message;
  }
}

/** @param {Answer} answer */
function refusal(answer) {
  const problem = parsed(answer.text) || {};
  return new DarkroomError(answer.status, problem.detail || `The server answered ${answer.status}.`, {
    kind: String(problem.type || "").replace(/^.*:/, ""),
    errors: problem.errors,
    retryAfter: Math.min(Math.max(Number(answer.header("Retry-After")) || 0, 0), MOST_RETRY_AFTER_SECONDS),
  });
}

const notDarkroom = () => new DarkroomError(0, "Something else answered in Darkroom's place.", { kind: "not_darkroom" });

function parsed(text) {
  try {
    return typeof text === "string" ? JSON.parse(text) : text;
  } catch (_) {
    return null;
  }
}

// ---------------------------------------------------------------- bytes to events

/** UTF-8 that may be cut at any byte.  TextDecoder is missing on phones, and one chunk alone is no whole text. */
class Utf8Decoder {
  constructor() {
    this._missing = 0;
    this._code = 0;
    this._lowest = 0x80;
    this._highest = 0xbf;
  }

  /** @param {Uint8Array} bytes @returns {string} all that is complete by now; U+FFFD for what is no UTF-8 */
  decode(bytes) {
    const parts = [];
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i];
      if (this._missing === 0) parts.push(this._first(byte));
      else if (byte < this._lowest || byte > this._highest) {
        this._missing = 0;
        parts.push("\ufffd");
        i -= 1;  // it may begin a character of its own
      } else parts.push(this._next(byte));
    }
    return parts.join("");
  }

  _first(byte) {
    if (byte < 0x80) return String.fromCharCode(byte);
    if (byte < 0xc2 || byte > 0xf4) return "\ufffd";
    this._missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    this._code = byte & (0x3f >> this._missing);
    this._lowest = byte === 0xe0 ? 0xa0 : byte === 0xf0 ? 0x90 : 0x80;  // no longer form than needed,
    this._highest = byte === 0xed ? 0x9f : byte === 0xf4 ? 0x8f : 0xbf;  // no surrogates, nothing above U+10FFFF
    return "";
  }

  _next(byte) {
    this._code = (this._code << 6) | (byte & 0x3f);
    this._lowest = 0x80;
    this._highest = 0xbf;
    this._missing -= 1;
    return this._missing === 0 ? String.fromCodePoint(this._code) : "";
  }
}

/**
 * @typedef {{event: string, data: string, id: string, retry?: undefined} | {retry: number}} StreamEvent
 */

/** text/event-stream, cut anywhere (HTML Living Standard, section 9.2). */
class EventParser {
  constructor() {
    this._rest = "";
    this._afterReturn = false;
    this._isFirst = true;
    this._event = "";
    this._data = [];
    this._id = "";
  }

  /** @param {string} text @returns {StreamEvent[]} the events that are complete by now */
  feed(text) {
    const found = [];
    let from = 0;
    const all = this._rest + text;
    for (let at = this._rest.length; at < all.length; at++) {
      const letter = all[at];
      if (letter === "\n" && this._afterReturn) from = at + 1;
      else if (letter === "\n" || letter === "\r") {
        this._line(all.slice(from, at), found);
        from = at + 1;
      }
      this._afterReturn = letter === "\r";
    }
    this._rest = all.slice(from);
    return found;
  }

  _line(text, found) {
    const line = this._isFirst ? text.replace(/^\ufeff/, "") : text;
    this._isFirst = false;
    if (line === "") {
      if (this._data.length) found.push({ event: this._event || "message", data: this._data.join("\n"), id: this._id });
      this._event = "";
      this._data = [];
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this._data.push(value);
    else if (field === "event") this._event = value;
    else if (field === "id" && value.indexOf("\0") < 0) this._id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) found.push({ retry: Number(value) });
  }
}

// ---------------------------------------------------------------- queries

/** What a field must be.  Made by `command`; conditions on one field can be chained: `_.gt(10).lt(90)`. */
class Condition {
  /** @param {(value: any) => boolean} test */
  constructor(test) {
    this.test = test;
  }

  and(...others) {
    const tests = flat(others).map(testOf);
    return new Condition((value) => this.test(value) && tests.every((test) => test(value)));
  }

  or(...others) {
    const tests = flat(others).map(testOf);
    return new Condition((value) => this.test(value) || tests.some((test) => test(value)));
  }
}

const flat = (given) => (given.length === 1 && Array.isArray(given[0]) ? given[0] : given);
const plain = (value) => (value instanceof Date && !isNaN(value.getTime()) ? value.toISOString() : value);  // as times stand in a document
const comparing = (holds) => (wanted) => {
  const other = plain(wanted);
  return new Condition((value) => typeof value === typeof other && value !== null && holds(value, other));
};

/** A command of CloudBase's that changes a document, for which there is nothing here to change. */
class UpdateCommand {}
const updating = () => new UpdateCommand();
const unknownCommand = (sentence) => () => { throw unsupported(sentence); };
const noPlace = unknownCommand("Works have no places: there are no geo commands.");
const noReckoning = unknownCommand("There are no expressions: ask with conditions, and reckon in the page.");

/** The conditions a query may be made of, as `db.command` of CloudBase. */
const command = {
  eq: (wanted) => new Condition((value) => holdsOrHas(value, plain(wanted))),
  neq: (wanted) => new Condition((value) => !holdsOrHas(value, plain(wanted))),
  gt: comparing((value, other) => value > other),
  gte: comparing((value, other) => value >= other),
  lt: comparing((value, other) => value < other),
  lte: comparing((value, other) => value <= other),
  in: (wanted) => new Condition((value) => wanted.some((each) => holdsOrHas(value, plain(each)))),
  nin: (wanted) => new Condition((value) => !wanted.some((each) => holdsOrHas(value, plain(each)))),
  exists: (wanted) => new Condition((value) => (value !== undefined) === Boolean(wanted)),
  and: (...all) => new Condition(() => true).and(...all),
  or: (...all) => new Condition(() => false).or(...all),
  nor: (...all) => command.not(command.or(...all)),
  not: (one) => new Condition(((test) => (value) => !test(value))(testOf(one))),
  mod: (...given) => new Condition((([divisor, rest]) => (
    (value) => typeof value === "number" && value % divisor === rest))(flat(given))),
  all: (wanted) => new Condition((value) => wanted.every((each) => holdsOrHas(value, plain(each)))),
  size: (count) => new Condition((value) => Array.isArray(value) && value.length === count),
  elemMatch: (one) => new Condition(((test) => (value) => Array.isArray(value) && value.some(test))(testOf(one))),
  geoNear: noPlace, geoWithin: noPlace, geoIntersects: noPlace,
  expr: noReckoning,
  get aggregate() { return noReckoning(); },
  get project() { return noReckoning(); },
  set: updating, remove: updating, inc: updating, mul: updating, min: updating, max: updating, rename: updating, bit: updating,
  push: updating, pop: updating, shift: updating, unshift: updating, addToSet: updating, pull: updating, pullAll: updating,
};
for (const name of ["eq", "neq", "gt", "gte", "lt", "lte", "in", "nin", "exists", "mod", "all", "size", "elemMatch", "nor", "not"]) {
  Condition.prototype[name] = function (...given) {
    return this.and(command[name](...given));
  };
}

/** Equal, or a list that holds it; null is equal to nothing at all. */
function holdsOrHas(value, wanted) {
  return isSame(value, wanted) || (Array.isArray(value) && value.some((each) => isSame(each, wanted)));
}

function isSame(one, other) {
  if (one === other || (one == null && other == null)) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  const names = Object.keys(one);
  return Array.isArray(one) === Array.isArray(other) && names.length === Object.keys(other).length
    && names.every((name) => isSame(one[name], other[name]));
}

/** What `where` was given, as a test of a document, or of a field.  Throws where it can't be meant so. */
function testOf(query) {
  if (query instanceof Condition) return query.test;
  if (query instanceof RegExp) return (value) => typeof value === "string" && value.search(query) >= 0;
  if (query instanceof UpdateCommand) throw new TypeError("A command that changes documents can't be in a query.");
  if (query === undefined) throw new TypeError("A query may not hold undefined: it would match what nobody meant.");
  if (query === "{openid}") return () => true;  // CloudBase's word for whoever asks; all works here are theirs
  if (query === null || typeof query !== "object" || Array.isArray(query) || query instanceof Date) {
    return command.eq(query).test;
  }
  const tests = Object.keys(query).map((path) => {
    const field = path === "_openid" ? "user_openid" : path, test = testOf(query[path]);
    return (doc) => test(valueAt(doc, field));
  });
  return (doc) => tests.every((test) => test(doc));
}

const valueAt = (doc, path) => path.split(".").reduce((value, step) => (value == null ? undefined : value[step]), doc);

/** Below zero if `one` comes before `other`; by `_id` where the named fields are equal. */
function comparison(orders) {
  const all = orders.length ? orders : [["created_at", "desc"]];
  return (one, other) => {
    for (const [field, direction] of all.concat([["_id", "desc"]])) {
      const a = valueAt(one, field), b = valueAt(other, field);
      if (a !== b) return ((a == null) !== (b == null) ? (a == null) : a < b) === (direction === "asc") ? -1 : 1;
    }
    return 0;
  };
}

const newestFirst = comparison([]);

// ---------------------------------------------------------------- what is known, and what is seen of it

/**
 * The works we know.  Everything down to `horizon` is known; of what is older, only some may be.  Null: all is known.
 */
class Works {
  constructor() {
    /** @type {Map<string, Doc>} */
    this.docs = new Map();
    /** @type {Doc | null} */
    this.horizon = null;
    this.cursor = "";
    this._removed = new Set();
  }

  /** @param {Doc[]} docs the newest, newest first */
  replace(docs) {
    this.docs = new Map(docs.map((doc) => /** @type {[string, Doc]} */ ([doc._id, doc])));
    this.horizon = docs.length < OPENING_DOCS ? null : docs[docs.length - 1];
    this.cursor = "";
    this._removed = new Set();
  }

  /** @param {Change} change */
  apply(change) {
    if (change.dataType === "remove") {
      this.docs.delete(change.docId);
      this._removed.add(change.docId);
    } else this.docs.set(change.docId, change.doc);
  }

  /** A page of older works.  What changes told us of a work is newer than what a page says of it. */
  addOlder(docs, next) {
    for (const doc of docs) {
      if (this._isBelow(doc) && !this.docs.has(doc._id) && !this._removed.has(doc._id)) this.docs.set(doc._id, doc);
    }
    const last = docs[docs.length - 1];
    const isLast = !next || !last || next === this.cursor;  // the same cursor again would bring the same page
    this.cursor = isLast ? "" : next;
    if (isLast) this.horizon = null;
    else if (this._isBelow(last)) this.horizon = last;
  }

  /** The same documents with new links; whether any was known.  What differs in more is brought by its change. */
  renew(docs) {
    const known = docs.filter((doc) => this.docs.has(doc._id) && !isSame(this.docs.get(doc._id), doc)
      && isSameButLinks(this.docs.get(doc._id), doc));
    known.forEach((doc) => this.docs.set(doc._id, doc));
    return known.length > 0;
  }

  inSight() {
    const all = Array.from(this.docs.values());
    return this.horizon ? all.filter((doc) => !this._isBelow(doc)) : all;
  }

  _isBelow(doc) {
    return this.horizon !== null && newestFirst(this.horizon, doc) < 0;
  }
}

/** One query's list, and how it changes. */
class View {
  constructor(where, orders, limit) {
    this._test = testOf(where);
    this._compare = comparison(orders);
    this._isByAge = !orders.length || (orders[0][0] === "created_at" && orders[0][1] === "desc");
    this._limit = limit;
    /** @type {Doc[]} */
    this.docs = [];
  }

  /** Whether older works may belong to this list. */
  wantsMore(works) {
    if (!works.horizon || works.docs.size >= MOST_DOCS) return false;
    return !this._isByAge || this._list(works).length < this._limit;
  }

  _list(works) {
    return works.inSight().filter(this._test).sort(this._compare).slice(0, this._limit);
  }

  /** The whole list. */
  look(works) {
    return this.docs = this._list(works);
  }

  /** The whole list, as the first snapshot tells it. */
  open(works, id) {
    this.look(works);
    return this.docs.map((doc) => ({ id, dataType: "init", queueType: "init", docId: doc._id, doc }));
  }

  /** What one change does to the list: to its work, and to others that it pushes out of the window or lets in. */
  change(works, change) {
    const before = this.docs, after = this.docs = this._list(works);
    const wasIn = before.some((doc) => doc._id === change.docId), isIn = after.some((doc) => doc._id === change.docId);
    const changes = [];
    if (wasIn || isIn) {
      const queueType = wasIn && isIn ? "update" : isIn ? "enqueue" : "dequeue";
      const dataType = change.dataType === "add" && queueType !== "enqueue" ? "replace" : change.dataType;
      changes.push(Object.assign({}, change, { dataType, queueType }));
    }
    const others = moved(before, after, { leaving: "limit", entering: "limit" }, change.id);
    return changes.concat(others.filter((each) => each.docId !== change.docId));
  }

  /** What has become different, however it did.  `entering`: the data type of what is new in the list. */
  difference(works, id, entering) {
    const before = this.docs, after = this.docs = this._list(works);
    const known = new Map(before.map((doc) => /** @type {[string, Doc]} */ ([doc._id, doc])));
    const updated = after.filter((doc) => known.has(doc._id) && !isSameButLinks(known.get(doc._id), doc))
      .map((doc) => ({ id, dataType: "update", queueType: "update", docId: doc._id, doc,
        updatedFields: fieldsThatDiffer(known.get(doc._id), doc) }));
    return updated.concat(moved(before, after, { leaving: "remove", entering }, id));
  }

  /** Take over new links; whether there were any in this list. */
  renew(works) {
    const before = this.docs;
    this.docs = this._list(works);
    return this.docs.some((doc, n) => doc !== before[n]);
  }
}

/** Works that leave the list, and then those that enter it, oldest first: a page puts each before the others. */
function moved(before, after, { leaving, entering }, id) {
  const was = new Set(before.map((doc) => doc._id)), is = new Set(after.map((doc) => doc._id));
  const entry = (dataType, queueType) => (doc) => ({ id, dataType, queueType, docId: doc._id, doc });
  return before.filter((doc) => !is.has(doc._id)).map(entry(leaving, "dequeue"))
    .concat(after.filter((doc) => !was.has(doc._id)).reverse().map(entry(entering, "enqueue")));
}

const withoutLinks = (doc) => JSON.stringify(doc, (name, value) => (
  (name === "url" || name === "data_url") && typeof value === "string" ? value.replace(/\?.*$/, "") : value));
const isSameButLinks = (one, other) => isSame(one, other) || withoutLinks(one) === withoutLinks(other);

function fieldsThatDiffer(before, after) {
  const found = {};
  Object.keys(after).forEach((name) => { if (!isSame(before[name], after[name])) found[name] = after[name]; });
  return found;
}

// ---------------------------------------------------------------- transports

/**
 * @typedef {{status: number, text: any, header: (name: string) => string | null}} Answer
 * @typedef {{method: string, url: string, headers: Object<string, string>, body?: string, timeoutMs: number}} Request
 * @typedef {{onHead: (status: number, header: Answer["header"]) => void, onBytes: (bytes: Uint8Array) => void,
 *            onEnd: (error: Error | null) => void}} StreamHandlers
 *
 * A transport: `send(request)` gives `{answer, abort}`; `upload` sends one file; `stream` gives a function that ends
 * it, or null where nothing can be streamed; `onWake(heard)` tells "online", "offline" and "shown", and gives a
 * function that stops this.
 */

/** By `fetch`: browsers, and Node. */
function fetchTransport() {
  const headerOf = (response) => (name) => response.headers.get(name);

  function send({ method, url, headers, body, timeoutMs }) {
    const ending = new AbortController();
    const timer = setTimeout(() => ending.abort(), timeoutMs);
    const answer = fetch(url, { method, headers, body, signal: ending.signal, cache: "no-store" })
      .then((response) => response.text().then((text) => ({ status: response.status, text, header: headerOf(response) })))
      .then((whole) => (clearTimeout(timer), whole), (error) => {
        clearTimeout(timer);
        throw unreached(error);
      });
    return { answer, abort: () => ending.abort() };
  }

  function upload({ url, headers, name, file, timeoutMs }) {
    const body = new FormData();
    body.append(name, file);
    return send({ method: "POST", url, headers, body: /** @type {any} */ (body), timeoutMs }).answer;
  }

  function stream({ url, headers }, { onHead, onBytes, onEnd }) {
    if (typeof Response !== "function" || !("body" in Response.prototype)) return null;
    const ending = new AbortController();
    (async () => {
      const response = await fetch(url, { headers, signal: ending.signal, cache: "no-store" });
      onHead(response.status, headerOf(response));
      const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        onBytes(value);
      }
    })().then(() => onEnd(null), (error) => onEnd(unreached(error)));
    return () => ending.abort();
  }

  /** A browser says the same of a dead server and of one that it may not ask; a request without CORS tells them apart. */
  async function explained(error, baseUrl) {
    const ending = new AbortController(), timer = setTimeout(() => ending.abort(), PROBE_MS);
    const isThere = await fetch(`${baseUrl}/healthz`, { mode: "no-cors", cache: "no-store", signal: ending.signal })
      .then(() => true, () => false);
    clearTimeout(timer);
    if (!isThere || typeof location === "undefined" || !baseUrl) return error;
    return new DarkroomError(0, `The server is there and does not let pages of ${location.origin} ask it: name that `
      + "address in DARKROOM_ALLOWED_ORIGINS.", { kind: "origin_not_allowed" });
  }

  function onWake(heard) {
    if (typeof addEventListener !== "function" || typeof document === "undefined") return () => {};
    const online = () => heard("online"), offline = () => heard("offline");
    const shown = () => { if (document.visibilityState === "visible") heard("shown"); };
    addEventListener("online", online);
    addEventListener("offline", offline);
    addEventListener("pageshow", shown);
    document.addEventListener("visibilitychange", shown);
    return () => {
      removeEventListener("online", online);
      removeEventListener("offline", offline);
      removeEventListener("pageshow", shown);
      document.removeEventListener("visibilitychange", shown);
    };
  }

  return { send, upload, stream, explained, onWake, feedQuery: "" };
}

/** What went wrong on the way, by the words of a browser, of Node or of a phone. */
function unreached(error) {
  const told = String((error && (error.errMsg || error.message)) || "");
  if (/domain list|600002/.test(told)) {  // errno 600002: "url not in domain list"
    return new DarkroomError(0, "WeChat does not let this mini-program ask the server: enter its address among the server "
      + `domains at mp.weixin.qq.com, for request, uploadFile and downloadFile (${told}).`, { kind: "domain_not_listed" });
  }
  const isLate = (error && error.name === "AbortError") || /time.?out/i.test(told);
  const more = told && !isLate ? ` (${told})` : "";
  return new DarkroomError(0, UNREACHABLE + more, { kind: isLate ? "timeout" : "unreachable" });
}

/** By `wx.request`: mini-programs.  Answers of any status are a "success" there. */
function wxTransport(wx) {
  const headerOf = (header) => (name) => {
    const found = Object.keys(header || {}).find((each) => each.toLowerCase() === name.toLowerCase());
    return found ? String(header[found]) : null;
  };
  function send({ method, url, headers, body, timeoutMs }) {
    let task;
    const answer = new Promise((resolve, reject) => {
      task = wx.request({
        url, method, header: headers, data: body, timeout: timeoutMs, dataType: "text", responseType: "text",
        success: (result) => resolve({ status: result.statusCode, text: result.data, header: headerOf(result.header) }),
        fail: (error) => reject(unreached(error)),
      });
    });
    return { answer, abort: () => task && task.abort() };
  }

  function upload({ url, headers, name, file, timeoutMs }) {
    return new Promise((resolve, reject) => wx.uploadFile({
      url, filePath: file, name, header: headers, timeout: timeoutMs,
      success: (result) => resolve({ status: result.statusCode, text: result.data, header: headerOf(result.header) }),
      fail: (error) => reject(unreached(error)),
    }));
  }

  function stream({ url, headers }, { onHead, onBytes, onEnd }) {
    let isHeaded = false;
    const head = (result) => {
      if (isHeaded || !result.statusCode) return;
      isHeaded = true;
      onHead(result.statusCode, headerOf(result.header));
    };
    const task = wx.request({
      url, method: "GET", header: headers, enableChunked: true, responseType: "arraybuffer", timeout: 600000,
      success: (result) => { head(result); onEnd(null); },
      fail: (error) => onEnd(unreached(error)),
    });
    if (!task || typeof task.onChunkReceived !== "function") {  // a base library before 2.20.2
      if (task) task.abort();
      return null;
    }
    if (typeof task.onHeadersReceived === "function") task.onHeadersReceived(head);
    task.onChunkReceived((result) => onBytes(new Uint8Array(result.data)));
    return () => task.abort();
  }

  function onWake(heard) {
    let hiddenAt = 0;
    const hide = () => { hiddenAt = Date.now(); };
    const show = () => heard(hiddenAt && Date.now() - hiddenAt > BACKGROUND_CUT_MS ? "online" : "shown");
    const network = (state) => heard(state.isConnected ? "online" : "offline");
    const pairs = [["AppHide", hide], ["AppShow", show], ["NetworkStatusChange", network]];
    for (const [name, listener] of pairs) if (wx[`on${name}`]) wx[`on${name}`](listener);
    return () => { for (const [name, listener] of pairs) if (wx[`off${name}`]) wx[`off${name}`](listener); };
  }

  return { send, upload, stream, explained: async (error) => error, onWake, feedQuery: `?rotate=${ROTATE_SECONDS}` };
}

// ---------------------------------------------------------------- asking

/** Requests with the user's token: renewed when it is refused, tried again while nobody answers. */
class Api {
  /** @param {Settings} settings */
  constructor(settings) {
    this.baseUrl = String(settings.baseUrl || "").replace(/\/+$/, "");
    this.timing = Object.assign({}, DEFAULTS, settings.timing);
    const wx = settings.wx || theirWx();
    this.transport = wx && wx.request ? wxTransport(wx) : fetchTransport();
    this.clockSkewMs = 0;  // the server's clock less ours
    this.onOtherUser = () => {};
    this.onAnswer = () => {};
    this.user = settings.user || "";
    this._given = settings.token;
    /** @type {Promise<string> | null} */
    this._token = null;
    /** @type {string | undefined} */
    this._latest = "";
  }

  get canRenew() { return typeof this._given === "function"; }

  /** The token, asked for once.  `refused`: one that is not taken any more, and why.  Throws DarkroomError. */
  token(refused, reason) {
    if (!this._token || (refused !== undefined && refused === this._latest)) {
      const isRenewal = this._token !== null;
      const asked = this._token = this._ask(isRenewal, reason);
      this._latest = undefined;  // whoever is refused meanwhile waits for the same new one
      asked.catch(() => { if (this._token === asked) this._token = null; });
    }
    return this._token;
  }

  async _ask(fresh, reason) {
    let token;
    try {
      token = (typeof this._given === "function" ? await this._given({ fresh, reason }) : this._given) || "";
    } catch (error) {
      const why = (error && (error.message || error.errMsg)) || error;
      throw new DarkroomError(0, `No token could be had: ${why}`, { kind: "no_token" });
    }
    token = String(token).trim();  // a file of a token ends with a line break
    const isOther = fresh && subjectOf(token) !== this._subject;
    this._subject = subjectOf(token);
    this._latest = token;
    if (isOther) this.onOtherUser();
    return token;
  }

  headers(token, more) {
    const all = Object.assign(token ? { Authorization: `Bearer ${token}` } : {}, this.user ? { "X-User": this.user } : {}, more);
    for (const name of Object.keys(all)) all[name] = headerText(name, all[name]);
    return all;
  }

  /** The JSON of an answer, null where there is none.  Throws DarkroomError. */
  call(method, path, options) {
    const { body, headers, timeoutMs, onSend } = options || {};
    const json = body === undefined ? {} : { "Content-Type": "application/json" };
    return this._withToken((token) => {
      const sent = this.transport.send({
        method, url: this.baseUrl + path, timeoutMs: timeoutMs || this.timing.requestTimeoutMs,
        headers: this.headers(token, Object.assign(json, headers)),
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      if (onSend) onSend(sent.abort);
      return sent.answer;
    });
  }

  upload(path, name, file) {
    const url = this.baseUrl + path, timeoutMs = 3 * this.timing.requestTimeoutMs;
    return this._withToken((token) => (
      this.transport.upload({ url, name, file, headers: this.headers(token), timeoutMs })));
  }

  /** What `ask` gives, asked again and again while nobody answers: for what carries a key, or may be repeated. */
  async patiently(ask, pausing = () => {}) {
    const until = Date.now() + this.timing.patienceMs;
    for (let n = 0; ; n++) {
      try {
        return await ask();
      } catch (error) {
        const pause = Math.max(jittered(500 * Math.pow(2, Math.min(n, 4))), (error.retryAfter || 0) * 1000);
        if (!RETRIED.has(error.status) || Date.now() + pause > until) throw error;
        pausing();
        await sleep(pause);
      }
    }
  }

  async _withToken(send) {
    const token = await this.token();
    let answer = await send(token);
    if (answer.status === 401 && this.canRenew) {
      const fresh = await this.token(token, refusal(answer).message);
      if (fresh !== token) answer = await send(fresh);
    }
    if (answer.status < 200 || answer.status > 299) throw refusal(answer);
    this.noteTime(answer.header);
    const told = answer.status === 204 ? null : parsed(answer.text);
    if (answer.status !== 204 && (typeof told !== "object" || told === null)) throw notDarkroom();
    this.onAnswer();
    return told;
  }

  noteTime(header) {
    const date = Date.parse(header("Date") || "");
    if (date) this.clockSkewMs = date - Date.now();
  }

  /** The document with whole addresses: a mini-program has no page that a path could belong to. */
  placed(doc) {
    if (!doc) return doc;
    const whole = (url) => (url && url[0] === "/" ? this.baseUrl + url : url);
    const place = (shown) => (shown && shown.url ? Object.assign({}, shown, { url: whole(shown.url) }) : shown);
    const more = {};
    if (doc.images) {
      more.images = doc.images.map((image) => (
        Object.assign({}, place(image), image.thumbnail ? { thumbnail: place(image.thumbnail) } : {})));
    }
    if (doc.files) more.files = doc.files.map(place);
    if (doc.data_url) more.data_url = whole(doc.data_url);
    return Object.assign({}, doc, more);
  }

  placedChange(change) {
    const more = change.updatedFields ? { updatedFields: this.placed(change.updatedFields) } : {};
    return Object.assign({}, change, { doc: this.placed(change.doc) }, more);
  }
}

function theirWx() {  // in a mini-program `wx` is a name, and no member of a global object
  // @ts-ignore
  return typeof wx !== "undefined" ? wx : null;
}

const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));
const jittered = (ms) => ms * (0.5 + Math.random() / 2);

/** A value as its bytes in UTF-8, one character for each, which is what `fetch` sends.  Throws DarkroomError. */
function headerText(name, value) {
  if (/[\x00-\x1f\x7f]/.test(value)) {  // the value may be a secret, and is not told
    throw new DarkroomError(422, `The value for ${name} has a control character in it.`, { kind: "bad_params" });
  }
  return encodeURIComponent(value).replace(/%(..)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

/** A new Idempotency-Key.  Not a secret: it only has to differ. */
function newKey() {
  let text = Date.now().toString(36);
  while (text.length < 32) text += Math.random().toString(36).slice(2);
  return text.slice(0, 32);
}

// ---------------------------------------------------------------- the connection

/**
 * Keeps `works` as the server has them, for as long as somebody watches.
 *
 * A *stream* is preferred.  Where its bytes don't come through we *poll*, and try a stream beside it from time to time.
 * Of several tabs that watch for the same user one *leads*: it holds the stream, and tells the others (`Tabs`).
 */
class Connection {
  /** @param {Api} api @param {boolean} canShare */
  constructor(api, canShare) {
    this.api = api;
    this.works = new Works();
    this.state = "connecting";
    /** @type {Set<Watcher>} */
    this.watchers = new Set();
    this.isOpened = false;
    this.seq = 0;
    this._canShare = canShare;
    this._place = "";
    this._retryMs = FIRST_RETRY_MS;
    this._failures = 0;  // in a row
    this._unsteady = 0;  // streams in a row that did not last
    this._pollUntil = 0;  // a time; 0: streams work
    this._pollingMs = 0;
    this._heardAt = 0;
    this._linksSince = 0;
    this._silentSince = 0;  // when nobody answered any more; 0: somebody does
    this._hurriedAt = 0;
    /** @type {DarkroomError | null} */
    this._trouble = null;  // why it does not connect
    /** @type {Promise<any> | null} */
    this._pausing = null;
    /** @type {Life | null} */
    this._life = null;
    api.onOtherUser = () => this._restart();
    api.onAnswer = () => this._answered();
  }

  add(watcher) {
    this.watchers.add(watcher);
    Promise.resolve().then(() => {
      if (!this.watchers.has(watcher)) return;
      watcher.tell(this.state);
      this._lookFurther();
    });
    if (!this._life) this._begin();
    watcher.sayUnless(() => this._hasConnected, this.api.timing.connectingMs, () => this._whyNot());
  }

  remove(watcher) {
    this.watchers.delete(watcher);
    watcher.end();
    if (!this.watchers.size) this._end();
  }

  // ---- beginning and ending

  _begin() {
    const life = this._life = new Life();
    this._retryMs = FIRST_RETRY_MS;
    this._failures = this._unsteady = this._pollUntil = this._silentSince = 0;
    this._hasConnected = this._isTriedAgain = false;
    this._trouble = null;
    this._pollingMs = this.api.timing.streamAgainMs;
    this._heardAt = Date.now();
    life.atEnd.push(this.api.transport.onWake((what) => this._woken(life, what)));
    this.state = "connecting";
    this._live(life).catch((error) => this._fail(life, error));
  }

  async _live(life) {
    const name = await this._nameForTabs(life);
    if (life.isOver) return;
    const tabs = name === null ? null : Tabs.open(name);
    if (!tabs) return this._lead(life, () => false);
    life.tabs = tabs;
    life.atEnd.push(() => tabs.close());
    tabs.onMessage = (message) => this._hear(life, message);
    await tabs.run({
      lead: (isOver) => this._lead(life, isOver),
      follow: (isOver) => this._follow(life, isOver),
      robbed: () => life.cut("robbed"),
      isLeaderSilent: () => Date.now() - this._heardAt > this.api.timing.silenceMs,
    });
  }

  /** What tabs of this user and server share; null where they share nothing, or can't know whose tabs they are. */
  async _nameForTabs(life) {
    while (this._canShare && !life.isOver) {
      try {
        const subject = subjectOf(await this.api.token());
        return subject === null ? null : `darkroom ${this.api.baseUrl} ${this.api.user || subject}`;
      } catch (error) {
        await this._afterFailure(life, error);
      }
    }
    return null;
  }

  _end() {
    if (!this._life) return;
    this._life.close();
    this._life = null;
    clearTimeout(this._linksTimer);
    this.isOpened = false;
    this._place = "";
    this.works = new Works();
  }

  /** Somebody else's works: nothing of what is known holds. */
  _restart() {
    if (!this._life) return;
    this._end();
    this.watchers.forEach((watcher) => watcher.begin());
    this._begin();
    this.watchers.forEach((watcher) => watcher.tell(this.state));
  }

  _fail(life, error) {
    if (life.isOver) return;
    const watchers = Array.from(this.watchers);
    this.watchers.clear();
    this._end();
    this.state = "lost";
    watchers.forEach((watcher) => watcher.fail(error));
  }

  /** What is wrong, as far as can be known from here. */
  async _whyNot() {
    const { api } = this, seconds = Math.round(api.timing.connectingMs / 1000);
    const error = this._trouble || new DarkroomError(0, `Nobody has answered for ${seconds} s.`, { kind: "timeout" });
    return error.status === 0 && error.kind === "unreachable" ? api.transport.explained(error, api.baseUrl) : error;
  }

  /** A request was answered, whoever asked: the server is there, so what waits for it need not wait longer. */
  _answered() {
    if (!this._life || !this._silentSince || Math.abs(Date.now() - this._hurriedAt) < HURRY_AT_MOST_EVERY_MS) return;
    this._hurriedAt = Date.now();
    this._life.hurry("heard");
  }

  _setState(state) {
    if (state === "live" || state === "polling") this._hasConnected = true;
    if (this.state === state) return;
    this.state = state;
    this._say({ state });
    this.watchers.forEach((watcher) => watcher.tell(state));
  }

  _woken(life, what) {
    const isStale = Date.now() - this._heardAt > this.api.timing.silenceMs / 2;  // timers stood still meanwhile
    if (what === "offline") this._setState("lost");
    if (what !== "shown" || isStale) life.cut(what);
    if (what !== "offline") life.hurry();
  }

  // ---- one that leads, or is alone

  /** Reads until it is over. */
  async _lead(life, hasLost) {
    const isOver = () => life.isOver || hasLost();
    const beats = setInterval(() => this._say({}), BEAT_MS);
    try {
      while (!isOver()) {
        try {
          await life.reading.turn();
          if (isOver()) return;
          const pause = Date.now() < this._pollUntil ? await this._poll(life) : await this._streamOrPoll(life);
          if (!isOver() && pause) await life.pause(pause);
        } catch (error) {
          if (!isOver()) await this._afterFailure(life, error);
        }
      }
    } finally {
      clearInterval(beats);
    }
  }

  /** Waits until it is time to try again; throws what will not become better. */
  async _afterFailure(life, error) {
    if (!(error instanceof DarkroomError)) throw error;
    const { status } = error;
    const isNo = status >= 400 && status < 500 && status !== 429 && !RETRIED.has(status);
    if (isNo && (status === 401 || status === 403 || !this.isOpened)) throw error;
    this._trouble = error;
    if (status === 0 || status > 499) this._silentSince = this._silentSince || Date.now();
    this._setState(this.isOpened ? "lost" : "connecting");
    await life.pause(Math.max(this._backOff(), error.retryAfter * 1000), this._silentSince && !error.retryAfter);
  }

  /** How long to wait after one more failure, in milliseconds: full of jitter, doubling, bounded. */
  _backOff() {
    this._failures += 1;
    const pause = this._pauseAfter(this._failures, Math.max(this._retryMs, LEAST_PAUSE_MS));
    return this._silentSince ? Math.min(pause, this._longestSilentPause()) : pause;
  }

  _pauseAfter(times, firstMs) {
    return jittered(Math.min(firstMs * Math.pow(2, times - 1), this.api.timing.longestPauseMs));
  }

  /** The longest pause while nobody answers: short at first, longer the longer it lasts, and the more clients there are. */
  _longestSilentPause() {
    const silentMs = this._silentSince ? Date.now() - this._silentSince : 0;
    return Math.max(BACK_SOON_MS, 2 * this._retryMs, silentMs / PATIENT_AFTER);
  }

  /** How long to wait before the next question, when the last should have brought what was missing and did not. */
  _inVain(life) {
    life.inVain += 1;
    return this._pauseAfter(life.inVain, FIRST_RETRY_MS);
  }

  /** One stream from its beginning to its end; after a time of polling, with a poll beside it. */
  async _streamOrPoll(life) {
    const token = await this.api.token();
    const stream = this._openStream(life, token);
    if (!stream) return this._pollFor(Infinity);
    const isTrial = this._pollUntil > 0;
    const poll = isTrial ? this._poll(life, stream.proved).catch(() => 0) : null;
    const end = await stream.ended;
    if (poll) await poll;
    if (life.isOver) return 0;
    if (isTrial && !end.bytes && end.status !== 401) return this._pollFor(this._pollingMs);
    return this._afterStream(life, end, token);
  }

  /** How long to pause after a stream has ended so.  Throws where that is a failure. */
  async _afterStream(life, end, token) {
    if (end.status === 401 && this.api.canRenew) {
      if (await this.api.token(token, end.error.message) === token) throw end.error;
      return this._failures++ ? this._backOff() : 0;
    }
    if (end.status === 429) return this._pollFor(this._pollingMs);  // too many streams: polls are counted apart
    if (end.error) throw end.error;
    if (end.why === "away") throw new DarkroomError(503, UNREACHABLE, { kind: "unreachable" });
    if (end.why === "offline") return this._retryMs;
    if (end.why === "no bytes") return this._pollFor(this._pollingMs);
    if (end.why === "missed") return this._inVain(life);
    if (end.why !== "ended" && end.why !== "bye" && end.why !== "silent") return 0;  // we cut it ourselves
    if (end.why === "bye") this._unsteady = 0;
    else this._unsteady += 1;
    const isUnsteady = this._unsteady >= (end.why === "silent" ? UNSTEADY_STREAMS - 1 : UNSTEADY_STREAMS);
    if (isUnsteady) this._unsteady = 0;
    if (isUnsteady && await this._pollsWork(life)) {
      const isBackAgain = !end.bytes && !this._isTriedAgain;  // it was away, perhaps, rather than no place for streams
      this._isTriedAgain = true;
      return isBackAgain ? 0 : this._pollFor(this._pollingMs);
    }
    if (!end.bytes) throw end.broken || new DarkroomError(0, UNREACHABLE, { kind: "unreachable" });
    if (end.why !== "bye" || this._retryMs > SOON_MS) this._setState("lost");
    return this._retryMs;
  }

  _pollFor(ms) {
    this._pollUntil = Date.now() + ms;
    this._pollingMs = Math.min(ms * 2, this.api.timing.longestPollingMs);
    return 0;
  }

  async _pollsWork(life) {
    return this._poll(life, null, 0).then(() => true, () => false);
  }

  /** Null where this platform can't stream; else promises `proved` (bytes come) and `ended` (how it went). */
  _openStream(life, token) {
    const { silenceMs, firstBytesMs } = this.api.timing;
    const headers = this.api.headers(token, { Accept: "text/event-stream" });
    if (this._place) headers["Last-Event-ID"] = this._place;
    const url = `${this.api.baseUrl}/v1/works/feed${this.api.transport.feedQuery}`;
    const decoder = new Utf8Decoder(), parser = new EventParser(), began = Date.now();
    let isOver = false, bytes = 0, status = 0, body = "", headerOf = (_) => null, heardAt = began;
    /** @type {Error | null} */
    let broken = null;
    let watchdog, sayEnded, sayProved;
    /** @type {(() => void) | null} */
    let abort = null;
    const ended = new Promise((resolve) => { sayEnded = resolve; });
    const proved = new Promise((resolve) => { sayProved = resolve; });
    const end = (why) => {  // WeChat may never call back, so nothing waits for it to do so
      if (isOver) return;
      isOver = true;
      clearTimeout(watchdog);
      forget();
      if (abort) abort();
      const error = status && status !== 200 ? refusal({ status, text: body, header: headerOf }) : null;
      sayProved(bytes > 0);
      sayEnded({ why, status, error, bytes, broken });
    };
    const watch = () => {
      const left = bytes ? heardAt + silenceMs - Date.now() : began + firstBytesMs - Date.now();
      if (left <= 0) end(bytes ? "silent" : "no bytes");
      else watchdog = setTimeout(watch, left);
    };
    const take = (event) => {
      if (event.retry !== undefined) this._retryMs = Math.min(event.retry, this.api.timing.longestPauseMs);
      else if (event.event === "bye") end("bye");
      else this._event(event);
    };
    const forget = life.onCut(end);
    abort = this.api.transport.stream({ url, headers }, {
      onHead: (given, header) => {
        status = given;
        headerOf = header;
        if (status !== 200) return;
        this.api.noteTime(header);
        if (!/^(?!text\/event-stream)./.test(header("Content-Type") || "")) return;
        broken = notDarkroom();  // a hotel's page, say
        end("ended");
      },
      onBytes: (chunk) => {
        if (isOver) return;
        const text = decoder.decode(chunk);
        if (status && status !== 200) {
          body += text;
          return;
        }
        const events = parser.feed(text);
        if (events.some((each) => each.retry === undefined && each.event === "away")) return end("away");  // a proxy answers in Darkroom's place
        bytes += chunk.length;
        this._heardAt = heardAt = Date.now();
        if (heardAt - began > STEADY_MS) this._unsteady = 0;
        if (bytes === chunk.length) this._streamWorks(sayProved);
        this._say({});
        events.forEach((event) => { if (!isOver) take(event); });
      },
      onEnd: (error) => {
        broken = broken || error;
        end("ended");
      },
    });
    if (!abort) {
      forget();
      return null;
    }
    watch();
    return { ended, proved };
  }

  _streamWorks(sayProved) {
    this._isTriedAgain = false;
    this._failures = this._silentSince = 0;
    this._pollUntil = 0;
    this._pollingMs = this.api.timing.streamAgainMs;
    sayProved(true);
    this._setState("live");
  }

  /** Seconds: as long as a poll may take, and not beyond the time at which streaming is to be tried again. */
  _pollWait() {
    if (!this.isOpened) return 0;
    const left = Math.ceil((this._pollUntil - Date.now()) / 1000);
    return left > 0 ? Math.min(left, POLL_WAIT_SECONDS) : POLL_WAIT_SECONDS;
  }

  /** One long poll; how long to pause after it.  proved: a stream beside it that makes it needless. */
  async _poll(life, proved, wait = this._pollWait()) {
    const place = this._place, since = place ? `since=${encodeURIComponent(place)}&` : "", began = Date.now();
    let abort = () => {}, isNeedless = false, why = "";
    const end = (reason) => { isNeedless = true; why = reason; abort(); };
    const forget = life.onCut(end);
    if (proved) proved.then((isProved) => { if (isProved) end("proved"); });
    try {
      const answer = await this.api.call("GET", `/v1/works/changes?${since}wait=${wait}`, {
        timeoutMs: wait * 1000 + this.api.timing.requestTimeoutMs,
        onSend: (given) => { abort = given; if (isNeedless) abort(); },
      });
      if (life.isOver || isNeedless) return 0;
      this._heardAt = Date.now();
      if (this._failures && this._pollUntil !== Infinity) this._pollUntil = Date.now();  // it was not the stream's fault
      this._failures = this._silentSince = 0;
      if (this.state !== "live" || this._pollUntil > Date.now()) this._setState("polling");
      if (life.isOver) return 0;
      this._answer(answer);
      const hasWaited = Date.now() - began > wait * 500;
      if (hasWaited) life.inVain = 0;
      else if (place && (answer.type || this._place === place)) return this._inVain(life);
    } catch (error) {
      if (!isNeedless) throw error;
    } finally {
      forget();
    }
    return why === "missed" ? this._inVain(life) : 0;
  }

  // ---- one that follows

  /** Opens by itself; then knows what the leader tells, and asks the server for what it could not hear. */
  async _follow(life, isOver) {
    this._heardAt = Date.now();
    life.tabs.say({ hello: true });
    while (!life.isOver && !isOver() && !this.isOpened) {
      try {
        await life.reading.turn();
        const answer = await this.api.call("GET", "/v1/works/changes");
        if (!life.isOver) this._answer(answer);
      } catch (error) {
        await this._afterFailure(life, error);
      }
    }
  }

  _hear(life, { hello, place, change, state }) {
    if (life.isOver) return;
    if (life.tabs.leads) return hello ? this._say({}) : undefined;
    if (hello) return;
    this._heardAt = Date.now();
    this._setState(state);
    if (change) this._take(place, change);
    else if (this.isOpened && place && isAhead(place, this._place)) this._catchUp();
  }

  /** Tell tabs that follow where we are. */
  _say(more) {
    const tabs = this._life && this._life.tabs;
    if (tabs && tabs.leads) tabs.say(Object.assign({ place: this._place, state: this.state }, more));
  }

  // ---- what comes in

  _event({ event, data, id }) {
    const told = parsed(data);
    if (!told) this._catchUp();
    else if (event === "init" || event === "reset") this._open(id, told);
    else if (event === "change") told.docChanges.forEach((change) => this._take(id, this.api.placedChange(change)));
  }

  _answer(answer) {
    if (answer.type) return this._open(answer.next, answer);
    const epoch = epochOf(answer.next);
    answer.docChanges.forEach((change) => this._take(`${epoch}-${change.id}`, this.api.placedChange(change)));
  }

  /** Everything there is, as of `place`.  What we have missed is told as its difference to what was shown. */
  _open(place, { docs }) {
    const isSameHistory = this.isOpened && epochOf(place) === epochOf(this._place);
    if (isSameHistory && seqOf(place) <= this.seq) return;  // we know this, and perhaps what has come since
    this._place = place;
    this.seq = seqOf(place);
    this.works.replace(docs.map((doc) => this.api.placed(doc)));
    this.isOpened = true;
    this._say({});
    this._linksSince = Date.now();
    this._watchLinks();
    this.watchers.forEach((watcher) => watcher.fallBehind());
    this._lookFurther("add");
  }

  /** The one door for changes: the next is applied, an old one dropped, and before one that is ahead we catch up. */
  _take(place, change) {
    if (!this.isOpened) return;
    const isOurs = epochOf(place) === epochOf(this._place);
    if (isOurs && change.id <= this.seq) return;
    if (!isOurs || change.id !== this.seq + 1) {
      this._catchUp();
      return;
    }
    this._place = place;
    this.seq = change.id;
    this.works.apply(change);
    if (this._life) this._life.inVain = 0;
    this._say({ change });
    this.watchers.forEach((watcher) => watcher.change(change));
    if (linksOf(change.doc).length) this._watchLinks();
    if (this._isIncomplete()) this._lookFurther("limit");
  }

  /** Ask for what came after our place, and for everything where that did not help. */
  async _catchUp() {
    const life = this._life;
    if (!life) return;
    life.hasMissed = true;
    if (life.isCatchingUp) return;
    life.isCatchingUp = true;
    try {
      for (let isAnew = false; life.hasMissed;) {
        if (life.inVain) await life.pause(this._pauseAfter(life.inVain, FIRST_RETRY_MS));
        await life.catchingUp.turn();
        if (life.isOver) return;
        life.hasMissed = false;
        life.inVain += 1;  // until a change fits again
        const since = isAnew || !this._place ? "" : `?since=${encodeURIComponent(this._place)}`;
        const answer = await this.api.patiently(() => this.api.call("GET", `/v1/works/changes${since}`));
        if (life.isOver) return;
        const before = this.seq;
        this._answer(answer);
        isAnew = this.seq === before;  // what was missed meanwhile is no sign that the answer did not help
      }
    } catch (_) {
      life.cut("missed");  // a stream that is opened anew brings the same, or the reason why not
    } finally {
      life.isCatchingUp = false;
    }
  }

  _isIncomplete() {
    return this.isOpened && Array.from(this.watchers).some((watcher) => watcher.wantsMore());
  }

  /** Show what there is; then load older works while a query may find its own among them. */
  async _lookFurther(entering) {
    const life = this._life;
    if (!life || !this.isOpened) return;
    this.watchers.forEach((watcher) => watcher.settle(entering));
    if (life.isLooking) return;
    life.isLooking = true;
    try {
      while (!life.isOver && this._isIncomplete()) await this._loadOlder(life);
    } catch (_) {
      life.later(() => this._lookFurther("limit"), this.api.timing.longestPauseMs);
    } finally {
      life.isLooking = false;
    }
  }

  async _loadOlder(life) {
    const { works } = this, { horizon } = works, page = await this._page(works.cursor);
    if (life.isOver) return;
    if (works.horizon === horizon) works.addOlder(page.items, page.next);
    this.watchers.forEach((watcher) => watcher.settle("limit"));
  }

  /** A hundred works, newest first. */
  async _page(cursor) {
    const after = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
    const page = await this.api.patiently(() => this.api.call("GET", `/v1/works?limit=100${after}`));
    return { items: page.items.map((doc) => this.api.placed(doc)), next: page.next };
  }

  // ---- asking once

  /**
   * The list of a view as it is now.  While somebody watches, by what the watch knows and has told: so whoever shows
   * this list and then obeys what the watch tells next misses nothing, and has nothing twice.
   */
  async read(view) {
    const answer = await this._askEverything(), life = this._life;
    if (life) await this._reach(answer);
    while (life && !life.isOver && view.wantsMore(this.works)) await this._loadOlder(life);
    if (life && !life.isOver) return view.look(this.works);
    const works = new Works();
    works.replace(answer.docs.map((doc) => this.api.placed(doc)));
    while (view.wantsMore(works)) {
      const page = await this._page(works.cursor);
      works.addOlder(page.items, page.next);
    }
    return view.look(works);
  }

  /** However many ask while nobody answers, and however often: those who come in a pause share the next question. */
  _askEverything() {
    if (this._pausing) return this._pausing;
    const asked = this.api.patiently(() => {
      this._pausing = null;
      return this.api.call("GET", "/v1/works/changes");
    }, () => { this._pausing = asked; });
    return asked;
  }

  /** Be no less far than an answer is, change by change if possible. */
  async _reach(answer) {
    if (this.isOpened && isAhead(answer.next, this._place)) await this._catchUp();
    if (this._life && (!this.isOpened || isAhead(answer.next, this._place))) this._answer(answer);
  }

  // ---- links

  /** New links into the documents we have.  It is no change, so none is told: the lists come with `docs` alone. */
  async _renewLinks(life) {
    const missing = new Set(Array.from(this.works.docs.values()).filter((doc) => linksOf(doc).length).map((doc) => doc._id));
    try {
      for (let cursor = ""; missing.size;) {
        const page = await this._page(cursor);
        if (life.isOver) return;
        page.items.forEach((doc) => missing.delete(doc._id));
        if (this.works.renew(page.items)) this.watchers.forEach((watcher) => watcher.renew());
        cursor = page.next;
        if (!cursor) break;
      }
    } catch (_) {
      // the next time, then
    } finally {
      if (!life.isOver) {
        this._linksSince = Date.now();  // whether they came or not, not at once again
        this._watchLinks();
      }
    }
  }

  /** Links to pictures and files expire: ask for new ones before they do. */
  _watchLinks() {
    const life = this._life;
    clearTimeout(this._linksTimer);
    if (!life) return;  // the last watch was closed by what it was told
    let first = Infinity;
    this.works.docs.forEach((doc) => linksOf(doc).forEach((url) => {
      const found = /[?&]exp=([0-9]+)/.exec(url || "");
      if (found) first = Math.min(first, Number(found[1]) * 1000 - this.api.clockSkewMs);
    }));
    const earliest = this._linksSince + this.api.timing.linksAtMostEveryMs;
    const inMs = Math.max(first - LINK_MARGIN_MS, earliest) - Date.now();
    const pause = Math.min(Math.max(inMs, 0), LINKS_AT_LEAST_EVERY_MS);
    this._linksTimer = setTimeout(() => this._renewLinks(life), pause);
  }
}

/** One run of a connection, from its first watcher to its last: what has to end with it. */
class Life {
  constructor() {
    this.isOver = false;
    this.isCatchingUp = this.hasMissed = this.isLooking = false;
    this.inVain = 0;  // questions in a row that brought nothing new, though there was something
    this.reading = new Turns();
    this.catchingUp = new Turns();
    /** @type {Tabs | null} */
    this.tabs = null;
    /** @type {(() => void)[]} */
    this.atEnd = [];
    this._cuts = new Set();
    this._timers = new Set();
    this._pauses = new Set();
  }

  close() {
    this.isOver = true;
    this.atEnd.forEach((each) => each());
    this._timers.forEach((timer) => clearTimeout(timer));
    this.cut("closed");
    this.hurry();
  }

  /** `end(why)` is called when what runs shall end; gives a function that takes this back. */
  onCut(end) {
    this._cuts.add(end);
    return () => this._cuts.delete(end);
  }

  cut(why) {
    Array.from(this._cuts).forEach((end) => end(why));
  }

  /** So long, or until something happens that makes it worth trying at once; `orHeard`: an answer to anything, too. */
  pause(ms, orHeard) {
    if (this.isOver) return Promise.resolve();
    return new Promise((wake) => {
      const end = (why) => {
        if (why === "heard" && !orHeard) return;
        clearTimeout(timer);
        this._pauses.delete(end);
        wake(undefined);
      };
      const timer = setTimeout(end, ms);
      this._pauses.add(end);
    });
  }

  /** End the pauses; those alone that wait for an answer if it is one that was "heard". */
  hurry(why) {
    Array.from(this._pauses).forEach((end) => end(why));
  }

  later(act, ms) {
    if (!this.isOver) this._timers.add(setTimeout(() => { if (!this.isOver) act(); }, ms));
  }
}

/** Keeps questions of one kind apart from each other, whatever makes us ask. */
class Turns {
  constructor() {
    this._last = 0;
  }

  async turn() {
    const left = Math.min(this._last + LEAST_PAUSE_MS - Date.now(), LEAST_PAUSE_MS);  // clocks are set back, too
    if (left > 0) await sleep(left);
    this._last = Date.now();
  }
}

const linksOf = (doc) => [...(doc.images || []), ...(doc.files || [])].map(({ url }) => url)
  .concat(doc.data_url ? [doc.data_url] : []);
const epochOf = (place) => place.slice(0, place.lastIndexOf("-"));
const seqOf = (place) => Number(place.slice(place.lastIndexOf("-") + 1));
const isAhead = (place, ours) => epochOf(place) !== epochOf(ours) || seqOf(place) > seqOf(ours);

/** The user a token names, unverified: only good to tell tabs of one user from those of another. */
function subjectOf(token) {
  if (!token) return "";
  try {
    const claims = JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
    return String(claims.sub);
  } catch (_) {
    return null;
  }
}

// ---------------------------------------------------------------- tabs

/**
 * Tabs of one browser share one stream, since a browser opens few connections to a host.
 *
 * Who holds the Web Lock leads and tells the others what comes in.  The lock ends with its tab, however that dies, and
 * the next in line leads on from its own place.  A leader that is silent (frozen by the browser) is robbed of the lock.
 * Where there are no Web Locks, or no BroadcastChannel, every tab has a stream of its own.
 */
class Tabs {
  static open(name) {
    if (typeof BroadcastChannel !== "function" || typeof navigator === "undefined" || !navigator.locks) return null;
    if (typeof document === "undefined") return null;  // Node has both, and no tabs
    return new Tabs(name);
  }

  constructor(name) {
    this._name = name;
    this._channel = new BroadcastChannel(name);
    this._channel.onmessage = (event) => this.onMessage(event.data);
    this._waiting = new AbortController();
    this._isClosed = false;
    this.leads = false;
    this.onMessage = (_) => {};
  }

  say(message) {
    if (!this._isClosed) this._channel.postMessage(message);
  }

  close() {
    this._isClosed = true;
    this._waiting.abort();
    this._channel.close();
  }

  /** Leads or follows until closed.  Throws what `lead` or `follow` throws. */
  async run({ lead, follow, robbed, isLeaderSilent }) {
    /** @type {LockOptions} */
    let how = { ifAvailable: true };  // no waiting in line yet: mostly there is no other tab
    while (!this._isClosed) {
      const waiting = this._waiting = new AbortController();
      let hasEnded = false, failure = null, led = Promise.resolve();
      const isWaiting = !("ifAvailable" in how) && !("steal" in how);
      const fail = (error) => { failure = error; waiting.abort(); };
      if (isWaiting) follow(() => hasEnded || this.leads).catch(fail);
      let silentLooks = 0;  // two in a row: whoever has just been woken hears old news first
      const look = isWaiting && setInterval(() => {
        silentLooks = isLeaderSilent() && !this.leads ? silentLooks + 1 : 0;
        if (silentLooks > 1) waiting.abort();
      }, LOOK_FOR_SILENCE_MS);
      try {
        await navigator.locks.request(this._name, isWaiting ? { signal: waiting.signal } : how, (lock) => {
          if (!lock || this._isClosed) return undefined;
          this.leads = true;
          led = lead(() => hasEnded || this._isClosed).catch(fail);
          return led;
        });
      } catch (error) {
        if (error.name !== "AbortError") failure = failure || error;
      }
      hasEnded = true;
      this.leads = false;
      clearInterval(look || undefined);
      robbed();  // or closed, or nothing was led: then there is nothing to cut
      await led;
      if (failure) throw failure;
      how = isWaiting && waiting.signal.aborted ? { steal: true } : {};
    }
  }
}

// ---------------------------------------------------------------- watching

/** One `watch`: a view, and whom to tell. */
class Watcher {
  constructor(connection, view, handlers, compat) {
    this._connection = connection;
    this._view = view;
    this._handlers = handlers;
    this._words = wordsFor(handlers.onChange, compat);
    this._isOpen = false;
    this._isBehind = false;
  }

  /** The next thing to tell is the whole list. */
  begin() {
    this._isOpen = this._isBehind = false;
  }

  /** The works are being read anew: once the list is whole, its difference to what was shown is told. */
  fallBehind() {
    this._isBehind = this._isOpen;
  }

  /** Tell once why not, unless something has become true by then. */
  sayUnless(isSo, afterMs, whyNot) {
    this._timer = setTimeout(async () => {
      const error = isSo() ? null : await whyNot();
      if (error && this._timer && !isSo() && this._handlers.onError) guarded(this._handlers.onError, error);
    }, afterMs);
  }

  end() {
    clearTimeout(this._timer);
    this._timer = undefined;
  }

  wantsMore() {
    return this._view.wantsMore(this._connection.works);
  }

  /** Tell the whole list, once it is whole; after that, what has become different. */
  settle(entering) {
    const { works, seq } = this._connection;
    if (this._isBehind && this.wantsMore()) return;
    this._isBehind = false;
    if (this._isOpen) this._tellChanges(this._view.difference(works, seq, entering));
    else if (!this.wantsMore()) {
      this._isOpen = true;
      this._show({ id: seq, type: "init", docChanges: this._view.open(works, seq), docs: this._view.docs });
    }
  }

  change(change) {
    if (this._isOpen && !this._isBehind) this._tellChanges(this._view.change(this._connection.works, change));
  }

  renew() {
    const { works, seq } = this._connection;
    if (this._isOpen && !this._isBehind && this._view.renew(works)) {
      this._show({ id: seq, docChanges: [], docs: this._view.docs });
    }
  }

  tell(state) {
    if (this._handlers.onState) guarded(this._handlers.onState, state);
  }

  fail(error) {
    this.end();
    this.tell("lost");
    if (this._handlers.onError) guarded(this._handlers.onError, error);
  }

  _tellChanges(docChanges) {
    if (docChanges.length) this._show({ id: this._connection.seq, docChanges, docs: this._view.docs });
  }

  _show(snapshot) {
    const told = copied(snapshot);
    told.docChanges = this._words(told.docChanges);
    guarded(this._handlers.onChange, told);
  }
}

/*
 * CloudBase's `queueType` says `enqueue` and `dequeue`; many pages were written for `add` and `remove`.  A `switch` asks
 * for one text exactly, so what enters or leaves is told by two entries: whichever words a page knows, one of its cases
 * is hit.  The second entry has a `dataType` of its own, `alias`, so a page that asks for that is told once, too.  It
 * comes where a page that takes everything it does not know for news of a work ends up right: after `enqueue`, and
 * before `dequeue`.
 */
const ALIASES = { enqueue: "add", dequeue: "remove" };

function inBothWords(changes) {
  return changes.reduce((all, change) => {
    const word = ALIASES[change.queueType];
    if (!word) return all.concat(change);
    const alias = Object.assign({}, change, { queueType: word, dataType: "alias" });
    return all.concat(word === "add" ? [change, alias] : [alias, change]);
  }, []);
}

const inAliases = (changes) => changes.map((change) => (
  Object.assign({}, change, { queueType: ALIASES[change.queueType] || change.queueType })));
const asTheyAre = (changes) => changes;

/** compat: true, the aliases alone; false, CloudBase's words alone, as also where the handler itself names these. */
function wordsFor(onChange, compat) {
  if (compat === true) return inAliases;
  return compat === false || /["'](en|de)queue["']/.test(String(onChange)) ? asTheyAre : inBothWords;
}

/** A page's mistake is the page's: it must not end the stream. */
function guarded(handler, value) {
  try {
    handler(value);
  } catch (error) {
    console.error(error);
  }
}

function copied(value) {
  if (Array.isArray(value)) return value.map(copied);
  if (typeof value !== "object" || value === null) return value;
  const copy = {};
  Object.keys(value).forEach((name) => { copy[name] = copied(value[name]); });
  return copy;
}

/** What is asked of a collection.  Every step gives a new one. */
class Query {
  constructor(hub, parts) {
    this._hub = hub;
    this._parts = parts;
  }

  _with(more) {
    return new Query(this._hub, Object.assign({}, this._parts, more));
  }

  /** @param {object} query fields and what they must be: values, or conditions of `db.command` */
  where(query) {
    const meant = this._parts.source.meant(query);
    testOf(meant);  // a mistake is told here, where it was made
    return this._with({ where: command.and(this._parts.where, meant) });
  }

  /** @param {string} field @param {"asc" | "desc"} direction */
  orderBy(field, direction) {
    if (direction !== "asc" && direction !== "desc") throw new TypeError('orderBy needs "asc" or "desc".');
    return this._with({ orders: this._parts.orders.concat([[field, direction]]) });
  }

  /** @param {number} count 1-5000 */
  limit(count) {
    return this._with({ limit: wholeNumber("limit", count, 1) });
  }

  /** How many to leave out of `get`.  A watch has the whole list. @param {number} count 0-5000 */
  skip(count) {
    return this._with({ skip: wholeNumber("skip", count, 0) });
  }

  /** Which fields `get` gives; a watch gives all. @param {object} fields `{name: true}`, or `{name: false}` */
  field(fields) {
    return this._with({ fields: Object.assign({}, this._parts.fields, fields) });
  }

  _view(limit, more = 0) {
    const count = (this._parts.limit || limit) + more;
    return new View(this._parts.where, this._parts.orders, Math.min(count, MOST_DOCS));
  }

  /**
   * Every change of the list, as it happens.  Lost connections are no error; `onError` is called once if nobody is
   * reached in the first seconds, and the client goes on trying; or once for what will not become better, and that ends it.
   * @param {{onChange: (snapshot: Snapshot) => void, onError?: (error: DarkroomError) => void,
   *          onState?: (state: State) => void}} handlers
   * @returns {{close: () => Promise<void>}}
   */
  watch(handlers) {
    if (!handlers || typeof handlers.onChange !== "function") throw new TypeError("watch needs an onChange function.");
    const { connection, compat } = this._hub;
    if (!this._parts.source.canWatch) throw unsupported('Watch "works": each task has one, with its status and progress.');
    const watcher = new Watcher(connection, this._view(MOST_DOCS), handlers, compat);
    connection.add(watcher);
    return {
      close: () => {
        connection.remove(watcher);
        return Promise.resolve();
      },
    };
  }

  /** The list as it is now, the first hundred without `limit`. @param {Called} [options] */
  get(options) {
    return called("collection.get", options, async () => {
      const { source, skip, fields } = this._parts;
      const docs = await source.list(this._view(OPENING_DOCS, skip));
      return { data: docs.slice(skip).map((doc) => asGot(doc, fields)) };
    });
  }

  /** How many there are, of 5,000 at most. @param {Called} [options] */
  count(options) {
    return called("collection.count", options, async () => (
      { total: (await this._parts.source.list(new View(this._parts.where, [], MOST_DOCS))).length }));
  }

  /** @param {Called} [options] */
  update(options) { return refused("collection.update", options, "Update one document: collection.doc(id).update."); }

  /** @param {Called} [options] */
  remove(options) { return refused("collection.remove", options, "Remove one document: collection.doc(id).remove."); }

  aggregate() { throw unsupported("There is no aggregate: ask for the documents with get, and reckon in the page."); }
}

class Collection extends Query {
  /** One document, by its id. @param {string} id */
  doc(id) {
    if (typeof id !== "string" || !id) throw new TypeError("doc needs the id of a document.");
    return new Document(this._hub, this._parts, id);
  }

  /** @param {Called & {data?: any}} options */
  add(options) {
    return called("collection.add", options, () => this._parts.source.add((options && options.data) || {}));
  }
}

/** One document. */
class Document {
  constructor(hub, parts, id) {
    this._hub = hub;
    this._parts = parts;
    this._id = id;
  }

  field(fields) {
    return new Document(this._hub, Object.assign({}, this._parts, { fields }), this._id);
  }

  /** @param {Called} [options] */
  get(options) {
    return called("document.get", options, async () => {
      const doc = await this._parts.source.one(this._id).catch((error) => {
        if (error.status !== 404) throw error;
        throw new DarkroomError(404, `document with _id ${this._id} does not exist`, { kind: error.kind });
      });
      return { data: asGot(doc, this._parts.fields) };
    });
  }

  /** @param {any} handlers as those of a query */
  watch(handlers) {
    return new Query(this._hub, this._parts).where({ _id: this._id }).limit(1).watch(handlers);
  }

  /** @param {Called & {data?: any}} options */
  update(options) {
    return called("document.update", options, async () => {
      await this._parts.source.update(this._id, (options && options.data) || {});
      return { stats: { updated: 1 } };
    });
  }

  /** @param {Called} [options] */
  remove(options) {
    return called("document.remove", options, async () => (
      { stats: { removed: await this._parts.source.remove(this._id) } }));
  }

  /** @param {Called} [options] */
  set(options) {
    return refused("document.set", options, "Documents are Darkroom's to write: order with task_queue's add.");
  }
}

function wholeNumber(name, count, least) {
  if (count >= least && count <= MOST_DOCS && Math.floor(count) === count) return count;
  throw new RangeError(`${name} must be a whole number from ${least} to ${MOST_DOCS}.`);
}

/** A document as `get` gives it: times are Dates, as CloudBase's `get` has them; its `watch` has texts. */
function asGot(doc, fields) {
  const names = Object.keys(fields || {}), wanted = names.filter((name) => fields[name]);
  const given = {};
  Object.keys(doc).forEach((name) => {
    if (wanted.length ? name !== "_id" && wanted.indexOf(name) < 0 : names.indexOf(name) >= 0) return;
    const isTime = /_at$/.test(name) && typeof doc[name] === "string";
    given[name] = isTime ? new Date(doc[name]) : copied(doc[name]);
  });
  return given;
}

/**
 * As a promise; or by `success`, `fail` and `complete` where any of these is given.
 * @param {string} name @param {Called | undefined} options @param {() => Promise<any>} act
 */
function called(name, options, act) {
  const promise = act().then((result) => Object.assign(result, { errMsg: `${name}:ok` }), (error) => {
    error.errMsg = `${name}:fail ${error.message}`;
    throw error;
  });
  const { success, fail, complete } = options || {};
  if (!success && !fail && !complete) return promise;
  const tell = (handler) => (value) => {
    if (handler) guarded(handler, value);
    if (complete) guarded(complete, value);
  };
  promise.then(tell(success), tell(fail));
  return undefined;
}

const unsupported = (sentence) => new DarkroomError(0, sentence, { kind: "unsupported" });
const refused = (name, options, sentence) => called(name, options, () => Promise.reject(unsupported(sentence)));

/** What the collection "works" is made of: what the server made of the orders.  Nobody writes there but Darkroom. */
class WorksSource {
  constructor({ api, connection }) {
    this._api = api;
    this._connection = connection;
    this.canWatch = true;
  }

  meant(query) { return query; }

  list(view) { return this._connection.read(view); }

  async one(id) {
    return this._api.placed(await this._api.patiently(() => this._api.call("GET", `/v1/works/${encodeURIComponent(id)}`)));
  }

  async add() {
    throw unsupported("A work comes with its task: order with collection(\"task_queue\").add.");
  }

  async update() {
    throw unsupported("A work shows what its task does: update the document of task_queue, or remove the work.");
  }

  remove(id) { return removed(this._api, id); }
}

/** Delete a work; one that is gone already is no error.  How many went: 1 or 0. */
function removed(api, id) {
  return api.patiently(() => api.call("DELETE", `/v1/works/${encodeURIComponent(id)}`)).then(() => 1, (error) => {
    if (error.status !== 404) throw error;
    return 0;
  });
}

const ORDER_MEMBERS = ["type", "params", "priority", "run_after"];
const KNOWN_ANYWAY = ["_id", "_openid", "user_openid", "status", "created_at", "updated_at"];

/** What the collection "task_queue" is made of: the user's own orders. */
class TasksSource {
  constructor({ api }, act) {
    this._api = api;
    this._act = act;
    this.canWatch = false;
  }

  /** All tasks that can be asked for are the user's own, and say no more of it. */
  meant(query) {
    if (!query || Object.getPrototypeOf(query) !== Object.prototype) return query;
    testOf(query);
    return Object.keys(query).filter((name) => name !== "user_openid" && name !== "_openid")
      .reduce((kept, name) => Object.assign(kept, { [name]: query[name] }), {});
  }

  async list(view) {
    const works = new Works();
    for (let cursor = "", all = [];;) {
      const after = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
      const page = await this._api.patiently(() => this._api.call("GET", `/v1/tasks?limit=100${after}`));
      all = all.concat(page.items.map((task) => this._doc(task)));
      works.replace(all);
      works.horizon = page.next && page.next !== cursor ? all[all.length - 1] : null;
      if (!view.wantsMore(works)) return view.look(works);
      cursor = page.next;
    }
  }

  async one(id) {
    return this._doc(await this._api.patiently(() => this._api.call("GET", `/v1/tasks/${encodeURIComponent(id)}`)));
  }

  /** A task in the words of a document. */
  _doc(task) {
    const { status, finished_at } = task, result = this._api.placed(task.result);
    return Object.assign({ _id: task.task_id }, task, {
      result, processing_started_at: task.started_at,
      completed_at: status === "completed" ? finished_at : null, failed_at: status === "failed" ? finished_at : null,
    });
  }

  async add(data) {
    const unknown = Object.keys(data).filter((name) => ORDER_MEMBERS.concat(KNOWN_ANYWAY).indexOf(name) < 0);
    if (unknown.length) throw unsupported(`An order has ${ORDER_MEMBERS.join(", ")}; it can't keep ${unknown.join(", ")}.`);
    if (data.status !== undefined && data.status !== "pending") throw unsupported('An order begins as "pending".');
    const order = {};
    ORDER_MEMBERS.forEach((name) => { if (data[name] !== undefined) order[name] = plain(data[name]); });
    const { task_id, work_id } = await this._act("/v1/tasks", { body: order, key: data._id });
    return { _id: task_id, work_id };
  }

  async update(id, data) {
    const changed = Object.keys(data).filter((name) => name !== "updated_at");
    const act = { cancelled: "cancel", pending: "retry" }[data.status];
    if (changed.length !== 1 || !act) {
      throw unsupported('Of a task only "status" can be set: to "cancelled", or to "pending" to run it once more.');
    }
    await this._act(`/v1/tasks/${encodeURIComponent(id)}/${act}`, {});
  }

  async remove() {
    throw unsupported('A task is kept for its account: set its status to "cancelled", or remove its work.');
  }
}

// ---------------------------------------------------------------- what a page uses

/**
 * @typedef {"connecting" | "live" | "polling" | "lost"} State
 * @typedef {{success?: (result: any) => void, fail?: (error: DarkroomError) => void,
 *            complete?: (told: any) => void}} Called how a call tells what came of it, if not by its promise
 * @typedef {{url: string, width: number, height: number}} Thumbnail
 * @typedef {{url: string, width: number, height: number, thumbnail: Thumbnail | null}} Picture
 * @typedef {{url: string, media_type: string, bytes: number, name: string, width?: number, height?: number,
 *            duration_seconds?: number}} ResultFile a result that is no picture
 * @typedef {{_id: string, task_id: string, user_openid: string, type: string, status: string, stage: string,
 *            progress: number, images: Picture[], files?: ResultFile[], data?: any, data_url?: string,
 *            error: {code: string, message: string} | null, created_at: string, updated_at: string}} Doc
 * @typedef {{name: string, status: "waiting" | "running" | "done" | "resumed" | "failed" | "cancelled", progress: number,
 *            run_seconds: number | null, cost: Object<string, string>, images?: Picture[]}} TaskStep what `task(id)` of a
 *            type with steps has in its `steps`
 * @typedef {{id: number, dataType: string, queueType: string, docId: string, doc: Doc,
 *            updatedFields?: Object<string, any>}} Change
 * @typedef {{kind: "grant" | "debit" | "refund", amount: number, task_id: string | null, at: string}} Entry
 * @typedef {{id: number, type?: "init", docChanges: Change[], docs: Doc[]}} Snapshot
 * @typedef {{baseUrl?: string, token?: string | ((why: {fresh: boolean, reason?: string}) => string | Promise<string>),
 *            user?: string, compat?: boolean, share?: boolean, wx?: any, timing?: Partial<typeof DEFAULTS>}} Settings
 */

/**
 * A user's Darkroom.
 *
 * baseUrl: the server's address; empty for the page's own.  token: the user's, or a function that gives it and is
 * asked for a `fresh` one, with the reason, when it is refused.  user: for whom a service acts, on a server.  compat: which words tell of what enters or leaves a
 * list; both, unless it is true (`add` and `remove` alone) or false (`enqueue` and `dequeue` alone).  share: false gives each tab a stream of its own.
 * @param {Settings} [settings]
 */
function database(settings) {
  const given = settings || {};
  const api = new Api(given);
  const hub = { api, connection: new Connection(api, given.share !== false), compat: given.compat };
  const act = (path, options) => {
    const headers = { "Idempotency-Key": (options && options.key) || newKey() };
    return api.patiently(() => api.call("POST", path, { headers, body: options && options.body }));
  };

  const sources = { works: new WorksSource(hub), task_queue: new TasksSource(hub, act) };
  const noPlaces = () => { throw unsupported("Works have no places: there is no Geo."); };

  return {
    command,

    /** @param {"works" | "task_queue"} name */
    collection(name) {
      const source = Object.prototype.hasOwnProperty.call(sources, name) && sources[name];
      if (!source) throw new TypeError(`There is no collection "${name}"; there are "works" and "task_queue".`);
      return new Collection(hub, { source, where: {}, orders: [], limit: 0, skip: 0, fields: null });
    },

    /** The time by the server's clock. @param {{offset?: number}} [options] milliseconds more */
    serverDate: (options) => new Date(Date.now() + api.clockSkewMs + ((options && options.offset) || 0)),

    /** @param {{regexp: string, options?: string}} given */
    RegExp: ({ regexp, options = "" }) => new RegExp(regexp, options),

    Geo: { Point: noPlaces, LineString: noPlaces, Polygon: noPlaces,
      MultiPoint: noPlaces, MultiLineString: noPlaces, MultiPolygon: noPlaces },

    /**
     * Order pictures.  However often it has to be sent, it is one order: all sendings carry the same key.
     * @param {{type: string, params: object, priority?: number, run_after?: string}} order
     * @param {{key?: string}} [options] key: your own, if you want to go on with an order after a reload
     * @returns {Promise<{task_id: string, work_id: string, status: string, queue_position: number | null}>}
     */
    submit: (order, options) => act("/v1/tasks", { body: order, key: options && options.key }),

    /**
     * What an order would cost, and when it would start.  Nothing is ordered.
     * @param {{type: string, params: object, priority?: number, run_after?: string}} order
     * @returns {Promise<{credits: number, balance: number, queue_position: number | null, eta_seconds: number | null}>}
     */
    estimate: (order) => api.patiently(() => api.call("POST", "/v1/tasks?estimate=true", { body: order })),

    /**
     * Hand in a picture: a File or Blob, or in a mini-program the path that `wx.chooseMedia` gave.
     * @param {Blob | string} file
     * @returns {Promise<{id: string, url: string, width: number, height: number, bytes: number}>}
     */
    upload: (file) => api.patiently(() => api.upload("/v1/images", "image", file)),

    /**
     * Hand in a film, sound or other file, of which `params.videos`, `audio` or `files` name the id.
     * @param {Blob | string} file
     * @returns {Promise<{id: string, url: string, media_type: string, bytes: number, name: string}>}
     */
    uploadFile: (file) => api.patiently(() => api.upload("/v1/files", "file", file)),

    /** @param {string} taskId */
    cancel: (taskId) => act(`/v1/tasks/${encodeURIComponent(taskId)}/cancel`),

    /** @param {string} taskId of a failed or cancelled task; its credits are taken again */
    retry: (taskId) => act(`/v1/tasks/${encodeURIComponent(taskId)}/retry`),

    /** Delete a work and its pictures; one that is gone already is no error. @param {string} workId */
    remove: (workId) => removed(api, workId).then(() => null),

    /** A task with its place in the line and the time left. @param {string} taskId */
    task: (taskId) => api.patiently(() => api.call("GET", `/v1/tasks/${encodeURIComponent(taskId)}`)),

    /**
     * Any other address of the API, with the token and the patience of this client: for what may be asked again.
     * @param {string} method
     * @param {string} path with its query
     * @param {object} [body]
     */
    call: (method, path, body) => api.patiently(() => api.call(method, path, { body })),

    /** @returns {Promise<{balance: number, entries: Entry[]}>} */
    credits: () => api.patiently(() => api.call("GET", "/v1/credits")),
  };
}

export { database, command, DarkroomError, Utf8Decoder, EventParser, Works, View };
