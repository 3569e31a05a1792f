/** A link to one work for others: how long it is good is chosen, then it is made, copied or sent. */

import { explained, say } from "./words.js";

const $ = (id) => document.getElementById(id);
const TIMES = [3600, 86_400, 604_800, 2_592_000];  // seconds, as the server offers them
const USUAL = 604_800;

export class Sharing {
  #db;
  #announce;
  #workId = "";
  #expiresAt = "";

  constructor(db, announce) {
    this.#db = db;
    this.#announce = announce;
    $("share-times").append(...TIMES.map(choice));
    $("share-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#make();
    });
    $("share-times").addEventListener("change", () => this.#forget());
    $("share-copy").addEventListener("click", () => this.#copy());
    $("share-send").addEventListener("click", () => navigator.share({ url: $("share-link").value }).catch(() => {}));
    $("share-send").hidden = !navigator.share;
    this.speakAnew();
  }

  open(doc) {
    this.#workId = doc._id;
    this.#forget();
    $("share-dialog").showModal();
  }

  speakAnew() {
    for (const input of $("share-times").querySelectorAll("input")) input.nextElementSibling.textContent = say(`share.${input.value}`);
    if (this.#expiresAt) this.#showUntil();
  }

  #forget() {
    $("share-made").hidden = true;
    $("share-link").value = this.#expiresAt = "";
    this.#complain("");
  }

  async #make() {
    const seconds = Number($("share-times").querySelector("input:checked").value);
    this.#complain("");
    try {
      const { url, expires_at } = await this.#db.call("POST", `/v1/works/${this.#workId}/shares`, { ttl_seconds: seconds });
      $("share-link").value = url;
      this.#expiresAt = expires_at;
      this.#showUntil();
      $("share-made").hidden = false;
      $("share-link").focus();
      $("share-link").select();
    } catch (error) {
      this.#complain(explained(error));
    }
  }

  #showUntil() {
    const time = new Date(this.#expiresAt).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
    $("share-until").textContent = say("share.until", { time });
  }

  async #copy() {
    $("share-link").select();
    try {
      await navigator.clipboard.writeText($("share-link").value);
    } catch {
      document.execCommand("copy");  // where the page was not loaded over https
    }
    $("share-copy").textContent = say("share.copied");
    this.#announce(say("share.copied"));
    setTimeout(() => { $("share-copy").textContent = say("share.copy"); }, 2500);
  }

  #complain(text) {
    $("share-problem").textContent = text;
    $("share-problem").hidden = !text;
  }
}

function choice(seconds) {
  const label = document.createElement("label"), input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "share-time", value: seconds, checked: seconds === USUAL });
  label.append(input, document.createElement("span"));
  return label;
}
