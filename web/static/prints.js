/** The wall of prints: one card for each work, updated in place, so that focus stays and pictures don't flicker. */

import { age, duration, explained, say, showWords, translated, typeName } from "./words.js";

const OPEN = new Set(["pending", "processing", "ai_processing"]);
const LOOK_MS = 2_500;  // how often places in the line are asked for
const MOST_LOOKED_AT = 6;
const PAGE = 100;
const NEAR_PX = 200;  // from the edge of what is seen: `loading="lazy"` takes three screens more than there are

const $ = (id) => document.getElementById(id);

/** Pictures wait for their card to come near; where it is then says `data-src`. */
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) load(target);
}, { rootMargin: `${NEAR_PX}px` });

function load(picture) {
  near.unobserve(picture);
  picture.src = picture.dataset.src;
}

/** `announce(text)` tells screen readers; `onEnd()` is called when a work may have moved credits; `onOpen(doc, n)` shows a picture. */
export class Wall {
  #db;
  #hooks;
  #prints = new Map();  // {work id: Print}
  #ghosts = new Map();  // {work id: address of the photo that was handed in}, of this visit only
  #watcher = null;
  #limit = PAGE;

  constructor(db, hooks) {
    this.#db = db;
    this.#hooks = hooks;
    $("older").addEventListener("click", () => this.#showOlder());
    setInterval(() => this.#prints.forEach((print) => print.showAge()), 20_000);
    this.#lookAtTheLine();
  }

  /** Watch, and go on watching.  `onState`, `onError`: as `watch` of the client has them. */
  watch({ onState, onError }) {
    const before = this.#watcher;
    const onChange = (snapshot) => this.#take(snapshot);
    this.#watcher = this.#db.collection("works").limit(this.#limit).watch({ onChange, onState, onError });
    this.#again = () => this.watch({ onState, onError });
    before?.close();  // after the new one is there, so that the stream stays
  }

  #again = () => {};

  /** The photo that a work is made from, shown dimly until its picture is there. */
  remember(workId, address) {
    this.#ghosts.set(workId, address);
    this.#prints.get(workId)?.refresh();
  }

  /** The language has changed. */
  speakAnew() {
    this.#prints.forEach((print) => print.speakAnew());
    this.#showSummary();
  }

  #take({ type, docs, docChanges }) {
    if (type === "init") {
      const present = new Set(docs.map((doc) => doc._id));
      for (const id of [...this.#prints.keys()]) if (!present.has(id)) this.#drop(id);
      docs.forEach((doc) => this.#put(doc, false));
      $("older").hidden = docs.length < this.#limit;
    }
    if (!docChanges.length) docs.forEach((doc) => this.#prints.get(doc._id)?.show(doc));  // nothing but new links
    for (const { doc, docId, queueType, dataType } of docChanges) {
      if (queueType === "dequeue") this.#drop(docId);
      else if (queueType !== "init") this.#put(doc, dataType === "add");
    }
    if (type === "init" || docChanges.some(({ doc }) => !OPEN.has(doc.status))) this.#hooks.onEnd();
    this.#showSummary();
  }

  #put(doc, isNew) {
    const known = this.#prints.get(doc._id);
    if (known) return known.show(doc);
    const print = new Print(doc, isNew, {
      ...this.#hooks,
      db: this.#db,
      ghostOf: (id) => this.#ghosts.get(id),
    });
    this.#prints.set(doc._id, print);
    const wall = $("prints");
    const older = [...wall.children].find((card) => isOlder(this.#prints.get(card.dataset.id).doc, doc));
    wall.insertBefore(print.card, older ?? null);
  }

  #drop(id) {
    const print = this.#prints.get(id);
    if (!print) return;
    const hadFocus = print.card.contains(document.activeElement);
    const next = print.card.nextElementSibling ?? print.card.previousElementSibling;
    this.#prints.delete(id);
    this.#ghosts.delete(id);
    print.card.remove();
    if (hadFocus) (next?.querySelector("button:not([hidden])") ?? $("prints")).focus();
  }

  #showSummary() {
    const all = this.#prints.size, open = [...this.#prints.values()].filter((print) => print.isOpen).length;
    $("empty").hidden = all > 0;
    $("summary").textContent = open ? say("prints.open", { n: open }) : all ? say("prints.all", { n: all }) : "";
    document.title = open ? `(${open}) Darkroom` : "Darkroom";
  }

  #showOlder() {
    this.#limit += PAGE;
    this.#again();
  }

  /** Ask for places in the line and times left, of the few that are on the screen. */
  async #lookAtTheLine() {
    for (;;) {
      await new Promise((wake) => setTimeout(wake, LOOK_MS));
      if (document.visibilityState !== "visible" || !navigator.onLine) continue;
      const open = [...this.#prints.values()].filter((print) => print.isOpen).slice(0, MOST_LOOKED_AT);
      const ask = (print) => this.#db.task(print.doc.task_id).then((task) => print.estimate(task), () => {});
      await Promise.all(open.map(ask));
    }
  }
}

function isOlder(one, other) {
  return one.created_at === other.created_at ? one._id < other._id : one.created_at < other.created_at;
}

/** One card. */
class Print {
  #hooks;
  #estimate = null;
  #isActing = false;
  #complaint = "";

  constructor(doc, isNew, hooks) {
    this.#hooks = hooks;
    this.card = $("print").content.firstElementChild.cloneNode(true);
    this.card.classList.toggle("new", isNew);
    this.part = (selector) => this.card.querySelector(selector);
    this.card.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button?.dataset.act === "open") hooks.onOpen(this.doc, 0);
      else if (button?.dataset.act) this.#act(button);
      else if (button?.dataset.n) hooks.onOpen(this.doc, Number(button.dataset.n));
    });
    showWords(this.card);
    this.show(doc);
  }

  get isOpen() { return OPEN.has(this.doc.status); }

  show(doc) {
    const before = this.doc;
    this.doc = doc;
    this.#complaint = "";
    this.card.dataset.status = doc.status;
    this.card.dataset.id = doc._id;
    if (before && before.status !== doc.status) {
      this.#estimate = null;
      this.#hooks.announce(`${typeName(doc.type)}: ${say(`status.${doc.status}`)}`);
    }
    this.#showGhost();
    this.#showWords();
    this.#showPictures(before);
    this.#showMade(before);
    this.#showActs();
  }

  refresh() { this.show(this.doc); }

  speakAnew() {
    showWords(this.card);
    this.#showWords();
    this.part(".pictures").replaceChildren();
    this.#showPictures(null);
    this.#showMade(null);
    this.#showActs();
  }

  /** What a task says beyond its work: place in the line, time left. */
  estimate(task) {
    if (task.status !== this.doc.status) return;
    this.#estimate = task;
    this.#showWords();
  }

  showAge() {
    this.part("time").textContent = age(this.doc.created_at);
  }

  #showGhost() {
    const ghost = this.part(".ghost"), address = this.#hooks.ghostOf(this.doc._id);
    ghost.hidden = !address;
    if (address && !ghost.src) ghost.src = address;
    ghost.style.setProperty("--blur", `${Math.round(24 - this.doc.progress * 0.2)}px`);
  }

  #showWords() {
    const { doc } = this, name = typeName(doc.type), time = this.part("time"), progress = this.part("progress");
    this.part(".chip").textContent = say(`status.${doc.status}`);
    this.part(".name").textContent = name;
    time.dateTime = doc.created_at;
    time.title = new Date(doc.created_at).toLocaleString(document.documentElement.lang);
    this.showAge();
    progress.value = doc.progress;
    progress.setAttribute("aria-label", `${name}: ${this.#headline()}`);
    this.part(".percent").textContent = this.#headline();
    this.part(".stage").textContent = this.#substance();
    this.part(".line").textContent = this.#complaint || this.#line();
  }

  #headline() {
    const { status, progress } = this.doc, position = this.#estimate?.queue_position;
    if (status === "failed") return say("head.failed");
    if (status === "cancelled") return say("status.cancelled");
    if (status !== "pending") return `${progress} %`;
    return position == null ? say("status.pending") : position === 0 ? say("head.next") : say("head.ahead", { n: position });
  }

  #substance() {
    const { status, stage } = this.doc;
    return status === "processing" || status === "ai_processing" ? translated(`stage.${stage}`, stage) : "";
  }

  #line() {
    const { status, error, images } = this.doc, made = madeOf(this.doc);
    if (status === "failed") return error ? this.#whyItFailed(error) : say("failed");
    if (status === "completed" && made.length && !images.length) return made.every(isData) ? say("made.data") : filesOf(made);
    if (status === "completed") return countOf(images.length);
    const eta = this.#estimate?.eta_seconds;
    return !this.isOpen || eta == null ? "" : eta < 1 ? say("left.now") : say("left", { time: duration(eta) });
  }

  // What an expired task waited for stands in the server's own sentence alone.
  #whyItFailed({ code, message }) {
    const why = translated(`error.${code}`, message);
    return code === "expired" && why !== message ? `${why} ${message}` : why;
  }

  #showPictures(before) {
    const images = this.doc.status === "completed" ? this.doc.images : [];
    const paths = (each) => each.map((image) => image.url.split("?")[0]).join();
    if (before?.status === this.doc.status && paths(before.images) === paths(images)) return this.#renewLinks(images);
    const box = this.part(".pictures");
    box.style.setProperty("--columns", images.length > 4 ? 3 : images.length > 1 ? 2 : 1);
    box.replaceChildren(...images.map((image, n) => {
      const button = document.createElement("button"), picture = document.createElement("img");
      const { url, width, height } = thumbnailOf(image);
      button.type = "button";
      button.dataset.n = n;
      button.setAttribute("aria-label", say("look", { n: n + 1, all: images.length }));
      Object.assign(picture, { alt: "", width, height });
      picture.dataset.src = url;
      near.observe(picture);
      button.append(picture);
      return button;
    }));
  }

  /** Films and sound are played, JSON is shown, whatever else is saved. */
  #showMade(before) {
    const made = this.doc.status === "completed" ? madeOf(this.doc) : [];
    const paths = (each) => each.map(({ url = "" }) => url.split("?")[0]).join();
    this.card.classList.toggle("bare", this.doc.status === "completed" && made.length > 0 && !this.doc.images.length);
    if (before?.status === this.doc.status && paths(madeOf(before)) === paths(made)) return;  // what plays goes on
    this.part(".made").replaceChildren(...made.map(shownOf));
  }

  /** The same pictures, under links that are good for longer: for those that have not come near yet. */
  #renewLinks(images) {
    this.card.querySelectorAll(".pictures img").forEach((picture, n) => {
      picture.dataset.src = thumbnailOf(images[n]).url;
    });
  }

  #showActs() {
    const canRetry = this.doc.status === "failed" || this.doc.status === "cancelled";
    const kept = document.activeElement, name = typeName(this.doc.type);
    this.part("[data-act=cancel]").hidden = !this.isOpen;
    this.part("[data-act=retry]").hidden = !canRetry;
    this.part("[data-act=open]").hidden = this.doc.status !== "completed" || !this.doc.images.length;
    this.part("[data-act=delete]").hidden = this.isOpen;
    for (const button of this.card.querySelectorAll("[data-act]")) {  // out of its card a button has to say whose it is
      if (!button.classList.contains("sure")) nameButton(button, button.textContent, name);
    }
    if (kept && this.card.contains(kept) && kept.hidden) this.part(".acts button:not([hidden])")?.focus();
  }

  async #act(button) {
    const act = button.dataset.act, { db } = this.#hooks;
    if (act === "delete" && !button.classList.contains("sure")) return this.#makeSure(button);
    if (this.#isActing) return;
    this.#isActing = true;  // not `disabled`, which would take the focus away
    button.setAttribute("aria-busy", "true");
    try {
      await (act === "delete" ? db.remove(this.doc._id) : db[act](this.doc.task_id));
      this.#hooks.onEnd();
    } catch (error) {
      this.#complaint = explained(error);
      this.#showWords();
      this.#hooks.announce(this.#complaint);
    } finally {
      this.#isActing = false;
      button.removeAttribute("aria-busy");
    }
  }

  /** The first press asks; a second one within four seconds is meant. */
  #makeSure(button) {
    const ask = (isSure) => {
      const text = say(isSure ? "delete.sure" : "delete");
      button.classList.toggle("sure", isSure);
      button.textContent = text;
      nameButton(button, text, typeName(this.doc.type));
    };
    ask(true);
    this.#hooks.announce(say("delete.sure"));
    setTimeout(() => ask(false), 4000);
  }
}

/** What a card shows of a picture; one that was made before there were thumbnails has none. */
function thumbnailOf(image) {
  return image.thumbnail ?? image;
}

function nameButton(button, act, what) {
  button.setAttribute("aria-label", say("act.on", { act, what }));
}

/** What was made beside pictures: its files, and its data as one that has no media type. */
function madeOf(doc) {
  const { files = [], data = null, data_url } = doc;
  return data === null && !data_url ? files : [...files, { data, url: data_url }];
}

const isData = (made) => !made.media_type;

function shownOf(made) {
  if (isData(made) && !made.url) return dataOf(made.data);
  const [kind] = (made.media_type ?? "").split("/");
  if (kind !== "video" && kind !== "audio") return linkTo(made);
  const player = document.createElement(kind);
  Object.assign(player, { controls: true, preload: "metadata", src: made.url });
  player.setAttribute("aria-label", made.name);
  if (made.width && made.height) Object.assign(player, { width: made.width, height: made.height });
  return player;
}

function dataOf(data) {
  const box = document.createElement("pre");
  box.textContent = JSON.stringify(data, null, 2);
  box.tabIndex = 0;  // it may be longer than its box
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", say("made.data"));
  return box;
}

function linkTo({ url, name, bytes }) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name ?? "data.json";
  link.textContent = bytes === undefined ? say("made.data.save") : `${name} · ${sizeOf(bytes)}`;
  return link;
}

function sizeOf(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function filesOf(made) {
  const n = made.filter((each) => !isData(each)).length;
  return n === 1 ? say("made.one") : say("made.many", { n });
}

function countOf(n) {
  return n === 1 ? say("pictures.one") : n ? say("pictures.many", { n }) : say("pictures.none");
}
