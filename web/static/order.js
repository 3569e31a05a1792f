/** The order form, made from what the server says of its types; handed in once, however often it has to be sent. */

import { Parameters } from "./parameters.js";
import { explained, inWords, knowTypes, say, sayOr, typeName } from "./words.js";

const $ = (id) => document.getElementById(id);
const PERSON = "M4 21c0-4.4 3.6-8 8-8s8 3.6 8 8M12 4a4 4 0 1 0 0 8a4 4 0 1 0 0-8";
const GARMENT = "M8 3 3 6l2 5 2-1v11h10V10l2 1 2-5-5-3c-.6 1.8-2.1 3-4 3S8.600 4.800 8 3z";
const PICTURE = "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01";
const OTHERS = { videos: "video/*", audio: "audio/*", files: "" };  // {kind of input: what a browser offers for it}
const SHAPES = { person: PERSON, garment: GARMENT };

/** `onAccepted(accepted, address)`: an order is stored; `address` shows the photo it was made with. */
export class Order {
  #db;
  #onAccepted;
  #types = [];
  #shown = "";  // the type whose fields stand in the form
  #files = {};  // {slot: {file, address, id}}, kept from type to type
  #parameters = new Parameters($("parameters"));
  #uploaded = new WeakMap();  // {File: id} of what is no picture
  #isSending = false;
  #link = "connecting";  // the state of the connection, as the page shows it
  #kept = {};  // {kind: [{id, name}]} beside pictures, of an order that was filled in
  #provider = "";  // that an order named which was filled in
  #stopWaiting = null;  // while an order waits for the network

  /** `onTypes(types)`: what may be ordered is known. */
  constructor(db, onAccepted, onTypes = () => {}) {
    this.#db = db;
    this.#onAccepted = onAccepted;
    this.#onTypes = onTypes;
    this.#listen();
    this.#learn();
  }

  #onTypes;

  /** How the page reaches the server: "live", "lost", "offline", … */
  showLink(state) {
    this.#link = state;
    this.#showWaits();
  }

  /**
   * Put an order into the form: `{type, params, inputs}` as `GET /v1/tasks/{id}/order` tells it.
   * Returns a sentence for its reader; throws one where the type can't be ordered here.
   */
  fill({ type, params, inputs }) {
    if (!this.#types.some((each) => each.type === type)) throw new Error(say("again.no.type"));
    document.querySelector(`input[name=type][value="${CSS.escape(type)}"]`).checked = true;
    const known = new Map(inputs.map((each) => [each.id, each])), given = (kind) => params[kind] ?? [];
    const kept = (kind) => given(kind).map((id) => known.get(id) ?? (id.includes(":") ? { id, name: id } : null));
    this.#files = {};
    kept("images").forEach((each, n) => {
      if (each) this.#files[this.#nameOfSlot(n)] = { file: null, name: each.name, address: each.url ?? "", id: each.id };
    });
    this.#kept = Object.fromEntries(Object.keys(OTHERS).map((kind) => [kind, kept(kind).filter(Boolean)]));
    this.#provider = params.provider ?? "";
    $("prompt").value = params.prompt ?? "";
    $("count").value = params.count ?? this.#type().count[0];
    this.#build(this.#type());
    const scene = document.querySelector(`input[name=scene][value="${CSS.escape(params.sceneId ?? "")}"]`);
    if (scene) scene.checked = true;
    this.#parameters.fill(params.parameters ?? {});
    this.#complain("");
    this.show();
    const isWhole = Object.keys({ images: 0, ...OTHERS }).every((kind) => kept(kind).every(Boolean));
    if (!isWhole) this.#complain(say("again.gone"));
    return say(isWhole ? "again.ready" : "again.gone");
  }

  #nameOfSlot(n) { return this.#type().slots[n]?.name ?? `image${n + 1}`; }

  show() {
    if (!this.#types.length) return;
    this.#nameTypes();
    const type = this.#type(), count = this.#count(), [fewest, most] = type.count;
    if (this.#shown !== type.type) this.#build(type);
    $("type-hint").textContent = inWords(type.about);
    $("type-hint").hidden = !$("type-hint").textContent;
    document.querySelector("[data-step='-1']").disabled = count <= fewest;
    document.querySelector("[data-step='1']").disabled = count >= most;
    this.#slots().forEach((slot, n) => this.#nameSlot(slot, n));
    const missing = this.#missing(), button = $("submit");
    button.disabled = !this.#stopWaiting && (this.#isSending || Boolean(missing));
    this.#showKept();
    this.#showWaits();
    if (this.#stopWaiting) button.textContent = say("submit.stop");
    else if (this.#isSending) button.textContent = say("submit.sending");
    else if (missing) button.textContent = sayOr(`submit.${missing.name}`, "submit.missing", { what: inWords(missing.title, missing.name) });
    else button.textContent = count === 1 ? say("submit.one") : say("submit.many", { n: count });
  }

  /** Ask what may be ordered; again as long as nobody answers. */
  async #learn() {
    try {
      const answer = await fetch("/v1/types");
      if (!answer.ok) throw new Error(answer.statusText);
      this.#types = (await answer.json()).items;
    } catch {
      setTimeout(() => this.#learn(), 2000);
      return;
    }
    knowTypes(this.#types);
    this.#onTypes(this.#types);
    $("types").append(...this.#types.map((type, n) => radio("type", type.type, "", n === 0)));
    $("types").hidden = this.#types.length < 2;
    this.show();
  }

  #nameTypes() {
    for (const input of document.querySelectorAll("input[name=type]")) input.nextElementSibling.textContent = typeName(input.value);
    for (const label of document.querySelectorAll("#others label")) label.firstElementChild.textContent = say(`input.${label.dataset.kind}`);
    for (const input of document.querySelectorAll("input[name=scene]")) input.nextElementSibling.textContent = sayOr(`scene.${input.value}`, "", {}, input.value);
  }

  #type() { return this.#types.find(({ type }) => type === document.querySelector("input[name=type]:checked").value); }

  /** One for each input that the type may take, as far as it is needed: those that must be, those that are there, one more. */
  #slots() {
    const { inputs, slots } = this.#type(), [fewest, most] = inputs.images ?? [0, 0];
    const all = Array.from({ length: most }, (_, n) => slots[n] ?? { name: `image${n + 1}`, title: {}, about: {}, n });
    const filled = all.findLastIndex(({ name }) => this.#files[name]) + 1;
    return all.slice(0, Math.min(most, Math.max(fewest, filled + 1)));
  }

  #missing() {
    const fewest = this.#type().inputs.images?.[0] ?? 0, slots = this.#slots();
    const given = slots.filter(({ name }) => this.#files[name]).length;
    if (given < fewest) return slots.find(({ name }) => !this.#files[name]);
    const lacking = this.#others().find(({ kind, bounds }) => this.#chosen(kind).length < bounds[0]);
    return lacking ? { name: lacking.kind, title: {} } : null;
  }

  /** The kinds of input beside pictures that the type takes. */
  #others() {
    const { inputs } = this.#type();
    return Object.keys(OTHERS).map((kind) => ({ kind, bounds: inputs[kind] ?? [0, 0] })).filter(({ bounds }) => bounds[1]);
  }

  #chosen(kind) { return [...(this.#kept[kind] ?? []), ...($(`other-${kind}`)?.files ?? [])]; }

  /** What an order that was filled in had beside pictures: a file field can't hold it. */
  #showKept() {
    const all = this.#others().flatMap(({ kind }) => (this.#kept[kind] ?? []).map((each) => ({ kind, each })));
    $("kept").hidden = !all.length;
    $("kept").replaceChildren(...all.map(({ kind, each }) => {
      const row = element("p"), name = element("span"), remove = element("button", "quiet");
      name.textContent = say("kept.other", { what: say(`input.${kind}`), name: each.name });
      Object.assign(remove, { type: "button", textContent: "×" });
      remove.setAttribute("aria-label", say("kept.remove", { name: each.name }));
      remove.addEventListener("click", () => {
        this.#kept[kind] = this.#kept[kind].filter((other) => other !== each);
        this.show();
        $(`other-${kind}`).focus();
      });
      row.append(name, remove);
      return row;
    }));
  }

  /** Why an order does not go out at once. */
  #showWaits() {
    const isOffline = this.#link === "offline", isWaiting = this.#isSending && this.#link === "lost";
    const name = isOffline ? (this.#isSending ? "waits.sending" : "waits.offline") : isWaiting ? "waits.lost" : "";
    $("waits").hidden = !name;
    const text = name ? say(name) : "";
    if ($("waits").textContent !== text) $("waits").textContent = text;
  }

  /** Wait for the network, where the browser knows that there is none.  False: the reader has thought better of it. */
  async #network() {
    if (navigator.onLine) return true;
    const isThere = await new Promise((resolve) => {
      this.#stopWaiting = () => resolve(false);
      addEventListener("online", () => resolve(true), { once: true });
      this.show();
    });
    this.#stopWaiting = null;
    this.show();
    return isThere;
  }

  #count() {
    const count = Math.round(Number($("count").value)), [fewest, most] = this.#type().count;
    return Math.min(most, Math.max(fewest, Number.isFinite(count) ? count : fewest));
  }

  #build(type) {
    this.#shown = type.type;
    this.#buildSlots();
    $("others").replaceChildren(...this.#others().map(otherField));
    $("others").hidden = !$("others").children.length;
    $("prompt-row").hidden = type.slots.length > 0 && !$("prompt").value;  // one that an order had is not hidden
    $("scenes").replaceChildren($("scenes").firstElementChild, ...type.scenes.map((scene, n) => radio("scene", scene, `swatch ${scene}`, n === 0)));
    $("scenes").hidden = !type.scenes.length;
    $("count").min = type.count[0];
    $("count").max = type.count[1];
    $("count-row").hidden = type.count[0] === type.count[1];
    $("count").value = this.#count();
    this.#parameters.show(type.parameters);
    this.#nameTypes();
  }

  #buildSlots() {
    const slots = this.#slots();
    $("drops").replaceChildren(...slots.map((slot) => this.#box(slot)));
    $("drops").hidden = !slots.length;
    for (const { name } of slots) this.#fill(name);
  }

  #box({ name }) {
    const box = element("div", "drop"), label = element("label"), ask = element("span", "ask"), input = element("input", "unseen");
    const preview = element("img", "preview"), clear = element("button", "clear");
    box.dataset.slot = name;
    Object.assign(input, { id: name, type: "file", accept: "image/*" });
    Object.assign(preview, { alt: "", hidden: true });
    Object.assign(clear, { type: "button", textContent: "×", hidden: true });
    label.htmlFor = name;
    ask.append(drawn(SHAPES[name] ?? PICTURE), element("b"), element("small"));
    label.append(preview, ask);
    box.append(label, input, clear);
    this.#listenTo(box);
    return box;
  }

  #choose(slot, file) {
    if (!file) return;
    this.#complain("");
    if (file.type && !file.type.startsWith("image/")) return this.#complain(say("no.picture", { name: file.name }));
    this.#files[slot] = { file, name: file.name, address: URL.createObjectURL(file), id: null };
    this.#showFile(slot);
  }

  #clear(slot) {
    delete this.#files[slot];  // its address may still be the ghost of a card
    this.#showFile(slot);
    $(slot)?.focus();
  }

  #showFile(slot) {
    const there = document.querySelectorAll(".drop").length;
    if (this.#slots().length === there) this.#fill(slot);
    else this.#buildSlots();
    this.show();
  }

  #fill(slot) {
    const box = document.querySelector(`[data-slot="${slot}"]`), chosen = this.#files[slot], image = box.querySelector("img");
    box.classList.toggle("full", Boolean(chosen?.address));
    box.querySelector(".clear").hidden = !chosen;
    image.hidden = !chosen?.address;
    if (chosen?.address) image.src = chosen.address;
    else image.removeAttribute("src");
    $(slot).value = "";
  }

  #nameSlot(slot, n) {
    const box = document.querySelector(`[data-slot="${slot.name}"]`), chosen = this.#files[slot.name];
    const what = inWords(slot.title, say("picture.n", { n: n + 1 }));
    box.querySelector("b").textContent = what;
    box.querySelector("small").textContent = chosen && !chosen.address ? chosen.name : inWords(slot.about, say("drop.how"));
    box.querySelector(".clear").setAttribute("aria-label", say("remove.slot", { what }));
    box.querySelector("img").alt = chosen ? say("chosen.slot", { what, name: chosen.name }) : "";
  }

  #complain(text) {
    $("problem").textContent = text;
    $("problem").hidden = !text;
  }

  #params(images, others = {}) {
    const type = this.#type(), parameters = this.#parameters.values(), prompt = $("prompt").value.trim();
    const scene = document.querySelector("input[name=scene]:checked")?.value;
    return {
      ...(images.length ? { images } : {}),
      ...others,
      count: this.#count(),
      ...(type.scenes.length ? { sceneId: scene } : {}),
      ...(prompt && !$("prompt-row").hidden ? { prompt } : {}),
      ...(this.#provider ? { provider: this.#provider } : {}),
      ...(Object.keys(parameters).length ? { parameters } : {}),
    };
  }

  async #send() {
    if (this.#stopWaiting) return this.#stopWaiting();
    if (this.#isSending || !this.#types.length || this.#missing()) return;
    const type = this.#type().type, chosen = this.#slots().map(({ name }) => this.#files[name]).filter(Boolean);
    this.#complain("");
    this.#parameters.mark();
    try {
      this.#params([]);  // before anything is uploaded
    } catch (error) {
      return this.#complain(say("no.json", { name: error.message }));
    }
    this.#isSending = true;
    this.show();
    try {
      if (!await this.#network()) return this.#complain(say("submit.stopped"));
      for (const each of chosen) each.id ??= (await this.#db.upload(each.file)).id;
      const params = this.#params(chosen.map((each) => each.id), await this.#handedIn());
      this.#onAccepted(await this.#db.submit({ type, params }), chosen[0]?.address);
    } catch (error) {
      const isShown = error.errors?.length && this.#parameters.mark(error.errors);
      if (error.status === 422 && !isShown) this.#forgetIds(chosen);
      this.#complain(explained(error));
    } finally {
      this.#isSending = false;
      this.show();
    }
  }

  /** Uploads that were refused are handed in again; those of an earlier order have to be chosen again. */
  #forgetIds(chosen) {
    for (const each of chosen) each.id = null;
    for (const [slot, { file }] of Object.entries(this.#files)) if (!file) delete this.#files[slot];
    this.#kept = {};
    this.#buildSlots();
  }

  /** {kind: ids} of what was chosen beside pictures; each is handed in once. */
  async #handedIn() {
    const given = {};
    for (const { kind } of this.#others()) {
      for (const file of this.#chosen(kind)) {
        if (file.id) (given[kind] ??= []).push(file.id);
        if (file.id) continue;
        if (!this.#uploaded.has(file)) this.#uploaded.set(file, (await this.#db.uploadFile(file)).id);
        (given[kind] ??= []).push(this.#uploaded.get(file));
      }
    }
    return given;
  }

  #listen() {
    $("order").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    $("order").addEventListener("change", ({ target }) => {
      if (target.name === "type") this.#provider = "";
      if (target.type === "file" && !target.dataset.kind) this.#choose(target.id, target.files[0]);
      if (target.id === "count") target.value = this.#count();
      this.show();
    });
    for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());  // a miss opens no file
    addEventListener("paste", (event) => {
      const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
      const slots = file && this.#types.length ? this.#slots() : [];
      if (slots.length) this.#choose((slots.find(({ name }) => !this.#files[name]) ?? slots[0]).name, file);
    });
    for (const button of document.querySelectorAll("[data-step]")) {
      button.addEventListener("click", () => {
        $("count").value = this.#count() + Number(button.dataset.step);
        this.show();
      });
    }
  }

  #listenTo(box) {
    const slot = box.dataset.slot;
    box.querySelector(".clear").addEventListener("click", () => this.#clear(slot));
    for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
      box.addEventListener(name, (event) => {
        event.preventDefault();
        box.classList.toggle("over", name === "dragenter" || name === "dragover");
        if (name === "drop") this.#choose(slot, event.dataTransfer.files[0]);
      });
    }
  }
}

/** A field for films, sound or other files. */
function otherField({ kind, bounds }) {
  const label = element("label", "field"), input = element("input");
  label.dataset.kind = input.dataset.kind = kind;
  Object.assign(input, { id: `other-${kind}`, type: "file", accept: OTHERS[kind], multiple: bounds[1] > 1 });
  label.append(element("span"), input);
  return label;
}

function radio(name, value, className, isChecked) {
  const label = element("label"), input = element("input");
  Object.assign(input, { type: "radio", name, value, checked: isChecked });
  label.append(input, element("span", className));
  return label;
}

function drawn(path) {
  const made = (name) => document.createElementNS("http://www.w3.org/2000/svg", name), svg = made("svg"), line = made("path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

function element(name, className = "") {
  const made = document.createElement(name);
  made.className = className;
  return made;
}
