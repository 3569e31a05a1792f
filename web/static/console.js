/**
 * The console: hand in a photo, watch it develop, keep the print.  Plain DOM, no dependencies.
 *
 * The event stream is the truth about works; every other answer only says that something was accepted.  The stream is
 * read with `fetch`, which can send a token and resumes with `Last-Event-ID`; it is opened anew whenever it ends, falls
 * silent, or the network comes back, so a server that restarts in mid-task costs a second and shows nothing wrong.
 */

const $ = (id) => document.getElementById(id);
const OPEN = new Set(["pending", "processing", "ai_processing"]);
const LABELS = {
  pending: "In line", processing: "Developing", ai_processing: "At the service",
  completed: "Done", failed: "Failed", cancelled: "Cancelled",
};
const HINTS = {
  photography: "A person, put before a new scene.",
  fitting: "A garment, laid on a person.",
};
const SILENCE_MS = 40_000;  // the stream beats every 15 s
const LONGEST_PAUSE_MS = 15_000;
const LOOK_MS = 2_500;  // how often places in the line are asked for
const MOST_LOOKED_AT = 6;
const TOKEN_KEY = "darkroom.token";

// ---------------------------------------------------------------- talking to the server

/** An answer that says no, or none at all.  `status` is 0 where nobody answered. */
class Refused extends Error {
  constructor(status, detail, retryAfter = 0) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const token = () => sessionStorage.getItem(TOKEN_KEY);

function headersWith(more) {
  const given = token();
  return given ? { ...more, Authorization: `Bearer ${given}` } : more;
}

/** The JSON of an answer, null where there is none.  Throws Refused. */
async function call(method, path, { body, headers = {} } = {}) {
  const isForm = body instanceof FormData;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: headersWith(body && !isForm ? { "Content-Type": "application/json", ...headers } : headers),
      body: body && !isForm ? JSON.stringify(body) : body,
    });
  } catch {
    throw new Refused(0, "Darkroom can't be reached just now.");
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  throw await refusal(response);
}

async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const needsToken = response.status === 401 || (response.status === 403 && !token());
  if (needsToken) askForToken(token() ? problem.detail : "");
  return new Refused(
    response.status, problem.detail ?? `The server answered ${response.status}.`,
    Number(response.headers.get("Retry-After") ?? 0),
  );
}

/** As `call`, tried again while nobody answers: for what carries a key, or changes nothing when it is repeated. */
async function callPatiently(method, path, options) {
  for (let pause = 400; ; pause *= 2) {
    try {
      return await call(method, path, options);
    } catch (error) {
      if (error.status !== 0 || pause > 8000) throw error;
      await sleep(pause);
    }
  }
}

const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---------------------------------------------------------------- the event stream

/** Keeps one event stream open.  `onEvent(name, data)`; `onState("connecting" | "live" | "lost")`. */
class Feed {
  #place = null;
  #retry = 1000;
  #failures = 0;
  #abort = null;
  #wake = null;

  constructor(onEvent, onState) {
    this.onEvent = onEvent;
    this.onState = onState;
    const hurry = () => { if (document.visibilityState === "visible") this.#wake?.(); };
    addEventListener("online", hurry);
    addEventListener("offline", () => this.#abort?.abort());
    document.addEventListener("visibilitychange", hurry);
  }

  /** Stays open until the page goes. */
  async run() {
    for (;;) {
      try {
        await this.#listen();
      } catch (error) {
        if (error.status === 401 || error.status === 403) await tokenGiven();
        this.#failures += 1;
      }
      this.onState("lost");
      const pause = Math.min(this.#retry * 1.7 ** Math.max(0, this.#failures - 1), LONGEST_PAUSE_MS);
      await Promise.race([sleep(pause * (0.7 + 0.6 * Math.random())), new Promise((wake) => { this.#wake = wake; })]);
    }
  }

  /** Forget the place and connect anew: somebody else has come in. */
  restart() {
    this.#place = null;
    this.#failures = 0;
    this.#abort?.abort();
    this.#wake?.();
  }

  async #listen() {
    const abort = this.#abort = new AbortController();
    let watchdog;
    const heard = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    heard();
    try {
      const headers = headersWith(this.#place ? { "Last-Event-ID": this.#place } : {});
      const response = await fetch("/v1/works/feed", { headers, signal: abort.signal, cache: "no-store" });
      if (!response.ok) throw await refusal(response);
      this.#failures = 0;
      this.onState("live");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let waiting = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        heard();
        const frames = (waiting + value).split("\n\n");
        waiting = frames.pop();
        frames.forEach((frame) => this.#take(frame));
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  #take(frame) {
    let name = "message", data = "", id = null;
    for (const line of frame.split("\n")) {
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === "event") name = value;
      else if (field === "data") data += value;
      else if (field === "id") id = value;
      else if (field === "retry") this.#retry = Number(value) || this.#retry;
    }
    if (id !== null) this.#place = id;
    if (data) this.onEvent(name, JSON.parse(data));
  }
}

// ---------------------------------------------------------------- prints

const prints = new Map();  // {work id: Print}, one for each card
const ghosts = new Map();  // {work id: address of the photo that was handed in}, of this visit only

/** One card.  Updated in place, so that focus stays where it is and pictures don't flicker. */
class Print {
  #estimate = null;
  #isActing = false;

  constructor(doc, isNew) {
    this.card = $("print").content.firstElementChild.cloneNode(true);
    this.card.classList.toggle("new", isNew);
    this.part = (selector) => this.card.querySelector(selector);
    this.card.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button?.dataset.act === "open") openViewer(this.doc, 0);
      else if (button?.dataset.act) this.#act(button);
      else if (button?.dataset.n) openViewer(this.doc, Number(button.dataset.n));
    });
    this.show(doc);
  }

  get isOpen() { return OPEN.has(this.doc.status); }

  show(doc) {
    const before = this.doc;
    this.doc = doc;
    this.card.dataset.status = doc.status;
    this.card.dataset.id = doc._id;
    if (before && before.status !== doc.status) {
      this.#estimate = null;
      say(`${named(doc)}: ${LABELS[doc.status]}`);
    }
    this.#showGhost();
    this.#showWords();
    this.#showPictures(before);
    this.#showActs();
  }

  /** What `GET /v1/tasks/{id}` says beyond the work: place in the line, time left. */
  estimate(task) {
    if (task.status === this.doc.status) {
      this.#estimate = task;
      this.#showWords();
    }
  }

  showAge() {
    this.part("time").textContent = age(this.doc.created_at);
  }

  #showGhost() {
    const ghost = this.part(".ghost"), address = ghosts.get(this.doc._id);
    ghost.hidden = !address;
    if (address && !ghost.src) ghost.src = address;
    ghost.style.setProperty("--blur", `${Math.round(24 - this.doc.progress * 0.2)}px`);
  }

  #showWords() {
    const { doc } = this;
    this.part(".chip").textContent = LABELS[doc.status] ?? doc.status;
    this.part(".name").textContent = named(doc);
    const time = this.part("time");
    time.dateTime = doc.created_at;
    time.title = new Date(doc.created_at).toLocaleString();
    this.showAge();
    const progress = this.part("progress");
    progress.value = doc.progress;
    progress.setAttribute("aria-label", `${named(doc)}: ${doc.stage}`);
    this.part(".percent").textContent = this.#headline();
    this.part(".stage").textContent = this.#substance();
    this.part(".line").textContent = this.#line();
  }

  #headline() {
    const { status, progress } = this.doc, position = this.#estimate?.queue_position;
    if (status === "pending") return position == null ? "In line" : position === 0 ? "Next" : `${position} ahead`;
    if (status === "failed") return "No print";
    if (status === "cancelled") return "Cancelled";
    return `${progress} %`;
  }

  #substance() {
    const { status, stage } = this.doc;
    return status === "processing" || status === "ai_processing" ? stage : "";
  }

  #line() {
    const { status, error, images } = this.doc;
    if (status === "failed") return error?.message ?? "It failed.";
    if (status === "completed") return images.length === 1 ? "1 picture" : `${images.length || "No"} pictures`;
    const eta = this.#estimate?.eta_seconds;
    return !this.isOpen || eta == null ? "" : eta < 1 ? "Any moment now" : `About ${duration(eta)} left`;
  }

  #showPictures(before) {
    const images = this.doc.status === "completed" ? this.doc.images : [];
    const paths = (each) => each.map((image) => image.url.split("?")[0]).join();
    if (before?.status === this.doc.status && paths(before.images) === paths(images)) return;
    const box = this.part(".pictures");
    box.style.setProperty("--columns", images.length > 4 ? 3 : images.length > 1 ? 2 : 1);
    box.replaceChildren(...images.map((image, n) => {
      const button = document.createElement("button"), picture = document.createElement("img");
      button.type = "button";
      button.dataset.n = n;
      button.setAttribute("aria-label", `Look at picture ${n + 1} of ${images.length}`);
      picture.src = image.url;
      picture.alt = "";
      picture.loading = "lazy";
      button.append(picture);
      return button;
    }));
  }

  #showActs() {
    const canRetry = this.doc.status === "failed" || this.doc.status === "cancelled";
    const kept = document.activeElement;
    this.part("[data-act=cancel]").hidden = !this.isOpen;
    this.part("[data-act=retry]").hidden = !canRetry;
    this.part("[data-act=open]").hidden = this.doc.status !== "completed" || !this.doc.images.length;
    this.part("[data-act=delete]").hidden = this.isOpen;
    if (kept && this.card.contains(kept) && kept.hidden) this.part(".acts button:not([hidden])")?.focus();
  }

  async #act(button) {
    const act = button.dataset.act;
    if (act === "delete" && !button.classList.contains("sure")) return makeSure(button);
    if (this.#isActing) return;
    this.#isActing = true;  // not `disabled`, which would take the focus away
    button.setAttribute("aria-busy", "true");
    try {
      if (act === "delete") {
        await callPatiently("DELETE", `/v1/works/${this.doc._id}`).catch((error) => {
          if (error.status !== 404) throw error;  // a repeated delete finds nothing, as it should
        });
        drop(this.doc._id);
      } else {
        const headers = { "Idempotency-Key": newKey() };
        await callPatiently("POST", `/v1/tasks/${this.doc.task_id}/${act}`, { headers });
      }
      refreshCredits();
    } catch (error) {
      this.part(".line").textContent = error.message;
      say(error.message);
    } finally {
      this.#isActing = false;
      button.removeAttribute("aria-busy");
    }
  }
}

/** The first press asks; a second one within four seconds is meant. */
function makeSure(button) {
  const text = button.textContent;
  button.classList.add("sure");
  button.textContent = "Really delete?";
  setTimeout(() => {
    button.classList.remove("sure");
    button.textContent = text;
  }, 4000);
}

const named = (doc) => doc.type.charAt(0).toUpperCase() + doc.type.slice(1).replaceAll("_", " ");

function duration(seconds) {
  return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
}

function age(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (seconds < 45) return "just now";
  if (seconds < 5400) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return new Date(time).toLocaleDateString();
}

function say(text) {
  $("said").textContent = text;
}

// ---------------------------------------------------------------- the wall of prints

let olderCursor = null;

function onEvent(name, data) {
  if (name === "init" || name === "reset") {
    const present = new Set(data.docs.map((doc) => doc._id));
    for (const id of [...prints.keys()]) if (!present.has(id)) drop(id);
    [...data.docs].reverse().forEach((doc) => put(doc, false));
    olderCursor = null;
    $("older").hidden = data.docs.length < 100;
    refreshCredits();
  } else if (name === "change") {
    for (const change of data.docChanges) {
      if (change.dataType === "remove") drop(change.docId);
      else put(change.doc, true);
      if (!OPEN.has(change.doc.status)) refreshCredits();
    }
  }
  showSummary();
}

function put(doc, isNew, atEnd = false) {
  const known = prints.get(doc._id);
  if (known) return known.show(doc);
  const print = new Print(doc, isNew);
  prints.set(doc._id, print);
  const wall = $("prints");
  const after = atEnd ? null : [...wall.children].find((card) => prints.get(card.dataset.id).doc.created_at <= doc.created_at);
  wall.insertBefore(print.card, after ?? null);
}

function drop(id) {
  const print = prints.get(id);
  if (!print) return;
  const hadFocus = print.card.contains(document.activeElement);
  const next = print.card.nextElementSibling ?? print.card.previousElementSibling;
  prints.delete(id);
  print.card.remove();
  if (ghosts.has(id)) ghosts.delete(id);
  if (hadFocus) (next?.querySelector("button:not([hidden])") ?? $("prints")).focus();
  showSummary();
}

function showSummary() {
  const open = [...prints.values()].filter((print) => print.isOpen).length;
  $("empty").hidden = prints.size > 0;
  $("summary").textContent = open ? `${open} developing` : prints.size ? `${prints.size} on the line` : "";
  document.title = open ? `(${open}) Darkroom` : "Darkroom";
}

async function showOlder() {
  const button = $("older");
  button.disabled = true;
  try {
    if (olderCursor === null) olderCursor = (await call("GET", "/v1/works?limit=100")).next;
    if (olderCursor) {
      const page = await call("GET", `/v1/works?limit=60&cursor=${encodeURIComponent(olderCursor)}`);
      page.items.forEach((doc) => put(doc, false, true));
      olderCursor = page.next;
    }
    button.hidden = !olderCursor;
    showSummary();
  } finally {
    button.disabled = false;
  }
}

/** Ask for places in the line and times left, of the few that are on the screen. */
async function lookAtTheLine() {
  for (;;) {
    await sleep(LOOK_MS);
    if (document.visibilityState !== "visible") continue;
    const open = [...prints.values()].filter((print) => print.isOpen).slice(0, MOST_LOOKED_AT);
    await Promise.all(open.map((print) =>
      call("GET", `/v1/tasks/${print.doc.task_id}`).then((task) => print.estimate(task), () => {})));
  }
}

// ---------------------------------------------------------------- ordering

const files = { person: null, garment: null };  // {slot: {file, address, id}}
let isSending = false;

const typeNow = () => document.querySelector("input[name=type]:checked").value;
const slotsNow = () => (typeNow() === "fitting" ? ["person", "garment"] : ["person"]);

function showOrder() {
  const type = typeNow(), isFitting = type === "fitting", count = countNow();
  document.querySelector("[data-slot=garment]").hidden = !isFitting;
  $("scenes").hidden = isFitting;
  $("type-hint").textContent = HINTS[type];
  document.querySelector("[data-step='-1']").disabled = count <= 1;
  document.querySelector("[data-step='1']").disabled = count >= 8;
  const missing = slotsNow().find((slot) => !files[slot]);
  const button = $("submit");
  button.disabled = isSending || Boolean(missing);
  if (isSending) button.textContent = "Handing in…";
  else if (missing) button.textContent = missing === "person" ? "Choose a photo first" : "Choose a garment first";
  else button.textContent = count === 1 ? "Make the picture" : `Make ${count} pictures`;
}

function countNow() {
  const count = Math.round(Number($("count").value));
  return Math.min(8, Math.max(1, Number.isFinite(count) ? count : 1));
}

function choose(slot, file) {
  if (!file) return;
  complain("");
  if (file.type && !file.type.startsWith("image/")) return complain(`${file.name} is not a picture.`);
  files[slot] = { file, address: URL.createObjectURL(file), id: null };
  showFile(slot);
}

function clearFile(slot) {
  files[slot] = null;  // its address may still be the ghost of a card
  showFile(slot);
  $(slot).focus();
}

function showFile(slot) {
  const box = document.querySelector(`[data-slot=${slot}]`), chosen = files[slot], image = box.querySelector("img");
  box.classList.toggle("full", Boolean(chosen));
  box.querySelector(".clear").hidden = !chosen;
  image.hidden = !chosen;
  image.alt = chosen ? `Your ${slot === "person" ? "photo" : "garment"}: ${chosen.file.name}` : "";
  if (chosen) image.src = chosen.address;
  else image.removeAttribute("src");
  $(slot).value = "";
  showOrder();
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function upload(chosen) {
  if (chosen.id) return chosen.id;
  const form = new FormData();
  form.append("image", chosen.file);
  chosen.id = (await callPatiently("POST", "/v1/images", { body: form })).id;
  return chosen.id;
}

async function submit(event) {
  event.preventDefault();
  if (isSending || slotsNow().some((slot) => !files[slot])) return;
  const type = typeNow(), chosen = slotsNow().map((slot) => files[slot]), count = countNow();
  const scene = document.querySelector("input[name=scene]:checked").value;
  isSending = true;
  complain("");
  showOrder();
  try {
    const images = [];
    for (const each of chosen) images.push(await upload(each));
    const params = { images, count, ...(type === "photography" ? { sceneId: scene } : {}) };
    const headers = { "Idempotency-Key": newKey() };  // sent again after a restart, it is still one order
    const accepted = await callPatiently("POST", "/v1/tasks", { body: { type, params }, headers });
    ghosts.set(accepted.work_id, chosen[0].address);
    const print = prints.get(accepted.work_id);
    if (print) print.show(print.doc);
    say("Handed in.");
    refreshCredits();
    if (matchMedia("(max-width: 859px)").matches) $("prints-title").scrollIntoView({ behavior: "smooth" });
  } catch (error) {
    if (error.status === 422) chosen.forEach((each) => { each.id = null; });
    complain(error.retryAfter > 1 ? `${error.message} Try again in ${duration(error.retryAfter)}.` : error.message);
  } finally {
    isSending = false;
    showOrder();
  }
}

// ---------------------------------------------------------------- credits, viewer, token

let creditsDue = null;

function refreshCredits() {
  clearTimeout(creditsDue);
  creditsDue = setTimeout(async () => {
    const statement = await call("GET", "/v1/credits").catch(() => null);
    if (!statement) return;
    $("balance").textContent = $("ledger-balance").textContent = statement.balance.toLocaleString();
    $("credits").hidden = false;
    $("ledger").replaceChildren(...statement.entries.map(entryRow));
  }, 250);
}

function entryRow(entry) {
  const row = document.createElement("li"), what = document.createElement("span");
  const when = document.createElement("time"), amount = document.createElement("b");
  what.textContent = { grant: "Granted", debit: "Paid", refund: "Given back" }[entry.kind] ?? entry.kind;
  when.dateTime = entry.at;
  when.textContent = age(entry.at);
  amount.textContent = entry.amount > 0 ? `+${entry.amount}` : `−${-entry.amount}`;
  amount.className = entry.amount > 0 ? "plus" : "";
  row.append(what, when, amount);
  return row;
}

let viewed = null;  // {doc, n}

function openViewer(doc, n) {
  viewed = { doc, n };
  showViewed();
  if (!$("viewer").open) $("viewer").showModal();
}

function showViewed() {
  const { doc, n } = viewed, image = doc.images[n];
  const picture = $("viewer").querySelector("img");
  picture.src = image.url;
  picture.alt = `${named(doc)}, picture ${n + 1} of ${doc.images.length}`;
  $("viewer-text").textContent = `${n + 1} of ${doc.images.length} · ${image.width} × ${image.height}`;
  $("viewer-save").href = image.url;
  $("viewer-save").download = image.url.split("?")[0].split("/").pop();
  for (const button of $("viewer").querySelectorAll("[data-turn]")) button.hidden = doc.images.length < 2;
}

function turn(step) {
  if (!viewed) return;
  const { length } = viewed.doc.images;
  viewed.n = (viewed.n + step + length) % length;
  showViewed();
}

let letIn = [];

/** Show the dialog; `why` is what was wrong with the last token. */
function askForToken(why) {
  sessionStorage.removeItem(TOKEN_KEY);
  $("token-problem").textContent = why ?? "";
  $("token-problem").hidden = !why;
  if (!$("token-dialog").open) $("token-dialog").showModal();
}

const tokenGiven = () => new Promise((resolve) => letIn.push(resolve));

function showUser() {
  const given = token();
  $("user").hidden = !given;
  if (!given) return;
  let name = "Signed in";
  try {
    const claims = JSON.parse(atob(given.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    name = String(claims.sub);
  } catch { /* the server will say what is wrong with it */ }
  $("user").textContent = name;
  $("user").title = "Leave: forget the token";
}

function onToken(event) {
  event.preventDefault();
  const given = $("token").value.trim();
  if (!given) return;
  sessionStorage.setItem(TOKEN_KEY, given);
  $("token").value = "";
  $("token-dialog").close();
  showUser();
  letIn.forEach((resolve) => resolve());
  letIn = [];
  feed.restart();
}

function leave() {
  sessionStorage.removeItem(TOKEN_KEY);
  location.reload();
}

// ---------------------------------------------------------------- everything together

const feed = new Feed(onEvent, (state) => {
  if ($("link").dataset.state === state) return;
  $("link").dataset.state = state;
  $("link-text").textContent = { live: "Live", lost: "Reconnecting", connecting: "Connecting" }[state];
});

function listen() {
  $("order").addEventListener("submit", submit);
  $("order").addEventListener("change", (event) => {
    if (event.target.type === "file") choose(event.target.id, event.target.files[0]);
    if (event.target.id === "count") event.target.value = countNow();
    showOrder();
  });
  for (const box of document.querySelectorAll(".drop")) {
    const slot = box.dataset.slot;
    box.querySelector(".clear").addEventListener("click", () => clearFile(slot));
    for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
      box.addEventListener(name, (event) => {
        event.preventDefault();
        box.classList.toggle("over", name === "dragenter" || name === "dragover");
        if (name === "drop") choose(slot, event.dataTransfer.files[0]);
      });
    }
  }
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());  // a miss opens no file
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (file) choose(slotsNow().find((slot) => !files[slot]) ?? "person", file);
  });
  for (const button of document.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => {
      $("count").value = countNow() + Number(button.dataset.step);
      showOrder();
    });
  }
  $("older").addEventListener("click", showOlder);
  $("credits").addEventListener("click", () => $("ledger-dialog").showModal());
  $("user").addEventListener("click", leave);
  $("token-form").addEventListener("submit", onToken);
  $("token-dialog").addEventListener("cancel", (event) => event.preventDefault());
  for (const button of document.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  for (const button of document.querySelectorAll("[data-turn]")) {
    button.addEventListener("click", () => turn(Number(button.dataset.turn)));
  }
  $("viewer").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  $("ledger-dialog").addEventListener("click", (event) => { if (event.target === event.currentTarget) event.target.close(); });
  setInterval(() => prints.forEach((print) => print.showAge()), 20_000);
}

listen();
showUser();
showOrder();
feed.run();
lookAtTheLine();
