/** The order form: what to make, from which photos, how many; handed in once, however often it has to be sent. */

import { explained, say } from "./words.js";

const $ = (id) => document.getElementById(id);

/** `onAccepted(accepted, address)`: an order is stored; `address` shows the photo it was made with. */
export class Order {
  #db;
  #onAccepted;
  #files = { person: null, garment: null };  // {slot: {file, address, id}}
  #isSending = false;

  constructor(db, onAccepted) {
    this.#db = db;
    this.#onAccepted = onAccepted;
    this.#listen();
    this.show();
  }

  show() {
    const type = this.#type(), isFitting = type === "fitting", count = this.#count();
    document.querySelector("[data-slot=garment]").hidden = !isFitting;
    $("scenes").hidden = isFitting;
    $("type-hint").textContent = say(`hint.${type}`);
    document.querySelector("[data-step='-1']").disabled = count <= 1;
    document.querySelector("[data-step='1']").disabled = count >= 8;
    for (const slot of Object.keys(this.#files)) this.#nameFile(slot);
    const missing = this.#slots().find((slot) => !this.#files[slot]), button = $("submit");
    button.disabled = this.#isSending || Boolean(missing);
    if (this.#isSending) button.textContent = say("submit.sending");
    else if (missing) button.textContent = say(`submit.${missing}`);
    else button.textContent = count === 1 ? say("submit.one") : say("submit.many", { n: count });
  }

  #type() { return document.querySelector("input[name=type]:checked").value; }

  #slots() { return this.#type() === "fitting" ? ["person", "garment"] : ["person"]; }

  #count() {
    const count = Math.round(Number($("count").value));
    return Math.min(8, Math.max(1, Number.isFinite(count) ? count : 1));
  }

  #choose(slot, file) {
    if (!file) return;
    this.#complain("");
    if (file.type && !file.type.startsWith("image/")) return this.#complain(say("no.picture", { name: file.name }));
    this.#files[slot] = { file, address: URL.createObjectURL(file), id: null };
    this.#showFile(slot);
  }

  #clear(slot) {
    this.#files[slot] = null;  // its address may still be the ghost of a card
    this.#showFile(slot);
    $(slot).focus();
  }

  #showFile(slot) {
    const box = document.querySelector(`[data-slot=${slot}]`), chosen = this.#files[slot], image = box.querySelector("img");
    box.classList.toggle("full", Boolean(chosen));
    box.querySelector(".clear").hidden = !chosen;
    image.hidden = !chosen;
    if (chosen) image.src = chosen.address;
    else image.removeAttribute("src");
    $(slot).value = "";
    this.show();
  }

  #nameFile(slot) {
    const chosen = this.#files[slot], image = document.querySelector(`[data-slot=${slot}] img`);
    image.alt = chosen ? say(`chosen.${slot}`, { name: chosen.file.name }) : "";
  }

  #complain(text) {
    $("problem").textContent = text;
    $("problem").hidden = !text;
  }

  async #send() {
    if (this.#isSending || this.#slots().some((slot) => !this.#files[slot])) return;
    const type = this.#type(), chosen = this.#slots().map((slot) => this.#files[slot]), count = this.#count();
    const scene = document.querySelector("input[name=scene]:checked").value;
    this.#isSending = true;
    this.#complain("");
    this.show();
    try {
      for (const each of chosen) each.id ??= (await this.#db.upload(each.file)).id;
      const images = chosen.map((each) => each.id);
      const params = { images, count, ...(type === "photography" ? { sceneId: scene } : {}) };
      this.#onAccepted(await this.#db.submit({ type, params }), chosen[0].address);
    } catch (error) {
      if (error.status === 422) chosen.forEach((each) => { each.id = null; });
      this.#complain(explained(error));
    } finally {
      this.#isSending = false;
      this.show();
    }
  }

  #listen() {
    $("order").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    $("order").addEventListener("change", ({ target }) => {
      if (target.type === "file") this.#choose(target.id, target.files[0]);
      if (target.id === "count") target.value = this.#count();
      this.show();
    });
    for (const box of document.querySelectorAll(".drop")) this.#listenTo(box);
    for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());  // a miss opens no file
    addEventListener("paste", (event) => {
      const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
      if (file) this.#choose(this.#slots().find((slot) => !this.#files[slot]) ?? "person", file);
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
