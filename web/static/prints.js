/** The wall of prints: one card for each work, updated in place, so that focus stays and pictures don't flicker. */

import { age, duration, errorWords, explained, say, showWords, stageWords, typeName } from "./words.js";

const OPEN = new Set(["pending", "processing", "ai_processing"]);
const LOOK_MS = 2_500;  // how often places in the line are asked for
const MOST_LOOKED_AT = 6;
const PAGE = 100;
const AT_ONCE = 24;  // cards that are made before anything else is done
const SLICE_MS = 12;  // for which cards are made before the page may do something else
const LEAST_A_SLICE = 10;  // each slice lays the whole wall out: on a busy machine there must not be one for each card
const RENEW_LINKS_MS = 6 * 3_600_000;  // links of what a search has found are no part of the watch
const NEAR_PX = 200;  // from the edge of what is seen: `loading="lazy"` takes three screens more than there are

const $ = (id) => document.getElementById(id);

/** Pictures wait for their card to come near; where it is then says `data-src`. */
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) whenNear(target);
}, { rootMargin: `${NEAR_PX}px` });

const asked = new WeakMap();  // {card: what is to be done when it comes near}

function whenNear(target) {
  if (!asked.has(target)) return load(target);
  near.unobserve(target);
  asked.get(target)();
  asked.delete(target);
}

function load(picture) {
  near.unobserve(picture);
  picture.src = picture.dataset.src;
}

/**
 * `announce(text)` tells screen readers; `onEnd(docs)` is called when works may have moved credits; `onOpen(doc, n)`
 * shows a picture; `onAgain(doc)`, `onShare(doc)`: their buttons; `onDone(doc)`: a work that was open has ended;
 * `refundOf(doc)`: the credits that came back for a task, or a promise of them.
 */
export class Wall {
  #db;
  #hooks;
  #prints = new Map();  // {work id: Print}
  #inOrder = [];  // the same, newest first
  #coming = new Map();  // {work id: doc} that is to be shown, a few at a time
  #ghosts = new Map();  // {work id: address of the photo that was handed in}, of this visit only
  #watcher = null;
  #limit = PAGE;
  #search = null;  // {query, finds(doc), next}; null: everything, live

  constructor(db, hooks) {
    this.#db = db;
    this.#hooks = hooks;
    $("older").addEventListener("click", () => this.#showOlder());
    setInterval(() => this.#prints.forEach((print) => print.showAge()), 20_000);
    setInterval(() => this.#search && this.#find(this.#search), RENEW_LINKS_MS);
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

  /** Show what a search finds, page by page, kept up to date; null: everything.  search: {query, finds(doc)}. */
  search(search) {
    this.#search = search && { ...search, next: null };
    this.#coming.clear();
    $("found-nothing").hidden = true;
    if (search) return this.#find(this.#search);
    this.#again();  // and the cards that a search has left out come back
  }

  /** The photo that a work is made from, shown dimly until its picture is there. */
  remember(workId, address) {
    this.#ghosts.set(workId, address);
    this.#prints.get(workId)?.refresh();
  }

  /** The language has changed, or what is known of credits. */
  speakAnew() {
    this.#prints.forEach((print) => print.speakAnew());
    this.#showSummary();
  }

  /** What types are called has become known. */
  showNames() { this.#prints.forEach((print) => print.showNames()); }

  showRefunds() { this.#prints.forEach((print) => print.showRefund()); }

  #take({ type, docs, docChanges }) {
    if (type === "init" && !this.#search) this.#showOnly(docs, docs.length >= this.#limit);
    else if (!docChanges.length) docs.forEach((doc) => this.#prints.has(doc._id) && this.#later(doc));  // nothing but new links
    const ended = [];
    for (const { doc, docId, queueType, dataType, updatedFields } of docChanges) {
      if (queueType === "update" && updatedFields?.status && !OPEN.has(doc.status)) ended.push(doc);
      if (queueType === "dequeue" && !(this.#search && dataType === "limit")) this.#drop(docId);
      else if (queueType !== "init" && queueType !== "dequeue") this.#change(doc, dataType === "add");
    }
    if (type === "init" || docChanges.some(({ doc }) => !OPEN.has(doc.status))) this.#hooks.onEnd();
    ended.forEach((doc) => this.#hooks.onDone?.(doc));
    this.#showSummary();
  }

  #change(doc, isNew) {
    if (this.#coming.has(doc._id)) this.#coming.set(doc._id, doc);
    else if (this.#prints.has(doc._id) || !this.#search || this.#search.finds(doc)) this.#put(doc, isNew);
  }

  /** These, and no others: the first screen at once, the rest a few at a time. */
  #showOnly(docs, mayBeMore) {
    const present = new Set(docs.map((doc) => doc._id));
    for (const id of [...this.#prints.keys()]) if (!present.has(id)) this.#drop(id);
    this.#coming.clear();
    docs.forEach((doc, n) => (n < AT_ONCE ? this.#put(doc, false) : this.#later(doc)));
    $("older").hidden = !mayBeMore;
  }

  #later(doc) {
    if (!this.#coming.size) setTimeout(() => this.#putSome(), 0);
    this.#coming.set(doc._id, doc);
  }

  #putSome() {
    const until = performance.now() + SLICE_MS;
    let n = 0;
    for (const [id, doc] of this.#coming) {
      this.#coming.delete(id);
      this.#put(doc, false);
      if (++n >= LEAST_A_SLICE && performance.now() > until) break;
    }
    if (this.#coming.size) setTimeout(() => this.#putSome(), 0);
    else this.#showSummary();
  }

  #put(doc, isNew) {
    const known = this.#prints.get(doc._id);
    if (known) return known.show(doc);
    const print = new Print(doc, isNew, {
      ...this.#hooks,
      db: this.#db,
      ghostOf: (id) => this.#ghosts.get(id),
    });
    const at = this.#placeOf(doc);
    $("prints").insertBefore(print.card, this.#inOrder[at]?.card ?? null);
    this.#inOrder.splice(at, 0, print);
    this.#prints.set(doc._id, print);
  }

  /** Where in the line a work belongs: before the first that is older. */
  #placeOf(doc) {
    let low = 0, high = this.#inOrder.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isOlder(this.#inOrder[middle].doc, doc)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #drop(id) {
    const print = this.#prints.get(id);
    this.#coming.delete(id);
    if (!print) return;
    const hadFocus = print.card.contains(document.activeElement);
    const next = print.card.nextElementSibling ?? print.card.previousElementSibling;
    this.#prints.delete(id);
    this.#inOrder.splice(this.#inOrder.indexOf(print), 1);
    this.#ghosts.delete(id);
    print.leave();
    if (hadFocus) (next?.querySelector("button:not([hidden])") ?? $("prints")).focus();
  }

  #showSummary() {
    const all = this.#prints.size + this.#coming.size, open = this.#inOrder.filter((print) => print.isOpen).length;
    $("empty").hidden = all > 0 || Boolean(this.#search);
    $("tools").hidden = all === 0 && !this.#search;
    if (this.#search) $("summary").textContent = all ? say(this.#search.next ? "found.some" : "found.all", { n: all }) : "";
    else $("summary").textContent = open ? say("prints.open", { n: open }) : all ? say("prints.all", { n: all }) : "";
    document.title = open ? `(${open}) Darkroom` : "Darkroom";
  }

  #showOlder() {
    if (this.#search) return this.#find(this.#search, this.#search.next);
    this.#limit += PAGE;
    this.#again();
  }

  async #find(search, cursor = null) {
    const after = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
    let page;
    try {
      page = await this.#db.call("GET", `/v1/works?limit=${PAGE}${search.query}${after}`);
    } catch (error) {
      return this.#hooks.announce(explained(error));
    }
    if (this.#search !== search) return;  // the reader has gone on
    search.next = page.next;
    if (cursor) page.items.forEach((doc) => this.#later(doc));
    else this.#showOnly(page.items, false);
    $("older").hidden = !page.next;
    $("found-nothing").hidden = this.#prints.size > 0;
    this.#showSummary();
    if (!cursor) this.#hooks.announce($("summary").textContent || say("search.nothing"));
  }

  /** Ask for places in the line and times left, of the few that are on the screen. */
  async #lookAtTheLine() {
    for (;;) {
      await new Promise((wake) => setTimeout(wake, LOOK_MS));
      if (document.visibilityState !== "visible" || !navigator.onLine) continue;
      const open = this.#inOrder.filter((print) => print.isOpen).slice(0, MOST_LOOKED_AT);
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
      else if (button?.dataset.act === "again") hooks.onAgain(this.doc);
      else if (button?.dataset.act === "share") hooks.onShare(this.doc);
      else if (button?.dataset.act) this.#act(button);
      else if (button?.dataset.n) hooks.onOpen(this.doc, Number(button.dataset.n));
    });
    showWords(this.card);
    this.show(doc);
  }

  get isOpen() { return OPEN.has(this.doc.status); }

  /** The card is taken away. */
  leave() {
    near.unobserve(this.card);
    this.card.querySelectorAll(".pictures img").forEach((picture) => near.unobserve(picture));
    this.card.remove();
  }

  show(doc) {
    const before = this.doc;
    this.doc = doc;
    if (before && before.updated_at && before.updated_at === doc.updated_at) return this.#renewLinks(doc.images);  // no change
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
    this.showRefund();
  }

  refresh() { this.#showGhost(); }

  showNames() {
    this.#showWords();
    this.#showActs();
  }

  speakAnew() {
    showWords(this.card);
    this.#showWords();
    this.part(".pictures").replaceChildren();
    this.#showPictures(null);
    this.#showMade(null);
    this.#showActs();
    this.showRefund();
  }

  /** The credits that came back, where the work has ended without all that was paid for. */
  showRefund() {
    const mayBe = !this.isOpen, n = mayBe ? this.#hooks.refundOf?.(this.doc, (ask) => this.#onceNear(ask)) : 0;
    const line = this.part(".back"), text = !n ? "" : n === 1 ? say("back.one") : say("back.many", { n: n.toLocaleString() });
    if (line.textContent === text) return;
    line.hidden = !text;
    line.textContent = text;
  }

  #onceNear(ask) {
    asked.set(this.card, () => ask().then(() => this.showRefund(), () => {}));
    near.observe(this.card);
  }

  /** What a task says beyond its work: place in the line, time left. */
  estimate(task) {
    if (task.status !== this.doc.status) return;
    this.#estimate = task;
    this.#showWords();
  }

  showAge() {
    const time = this.part("time"), text = age(this.doc.created_at);
    if (time.textContent !== text) time.textContent = text;
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
    this.#showSteps();
    this.part(".line").textContent = this.#complaint || this.#line();
  }

  /** The steps of a type that has them, as the last look at the task found them. */
  #showSteps() {
    const steps = (this.isOpen && this.#estimate?.steps) || [], list = this.part(".steps");
    list.hidden = !steps.length;
    list.replaceChildren(...steps.map(({ name, status }) => {
      const item = document.createElement("li");
      item.dataset.status = status;
      item.textContent = name;
      item.title = say(`step.${status}`);
      const spoken = document.createElement("span");
      spoken.className = "unseen";
      spoken.textContent = `: ${say(`step.${status}`)}`;
      item.append(spoken);
      return item;
    }));
  }

  #headline() {
    const { status, progress } = this.doc, position = this.#estimate?.queue_position;
    if (status === "failed") return say("head.failed");
    if (status === "cancelled") return say("status.cancelled");
    if (status !== "pending") return `${progress} %`;
    if (this.#attempt > 1) return say("head.again");
    return position == null ? say("status.pending") : position === 0 ? say("head.next") : say("head.ahead", { n: position });
  }

  /** Which attempt it is at; 0 while nobody has said so. */
  get #attempt() { return this.isOpen ? this.#estimate?.attempt ?? 0 : 0; }

  #substance() {
    const { status, stage } = this.doc;
    return status === "processing" || status === "ai_processing" ? stageWords(stage) : "";
  }

  #line() {
    const { status, error, images } = this.doc, made = madeOf(this.doc);
    if (status === "failed") return error ? this.#whyItFailed(error) : say("failed");
    if (status === "completed" && made.length && !images.length) return made.every(isData) ? say("made.data") : filesOf(made);
    if (status === "completed") return countOf(images.length);
    const eta = this.#estimate?.eta_seconds, isKnown = this.isOpen && eta != null;
    const left = !isKnown ? "" : eta < 1 ? say("left.now") : say("left", { time: duration(eta) });
    const attempt = this.#attempt > 1 ? say("attempt", { n: this.#attempt, all: this.#estimate.max_attempts }) : "";
    return [attempt, left].filter(Boolean).join(" · ");
  }

  #whyItFailed({ code, message }) {
    return errorWords(code, message);
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
    this.part("[data-act=share]").hidden = this.doc.status !== "completed" || !(this.doc.images.length || this.doc.files?.length);
    this.part("[data-act=again]").hidden = this.isOpen;
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
