/** Works by kind and day, and all that was found in one file. */

import { explained, say, typeName } from "./words.js";

const $ = (id) => document.getElementById(id);

export class Search {
  #db;
  #wall;
  #announce;
  #types = [];

  constructor(db, wall, announce) {
    this.#db = db;
    this.#wall = wall;
    this.#announce = announce;
    $("search-open").addEventListener("click", () => this.#open($("search").hidden));
    $("search-clear").addEventListener("click", () => {
      this.#open(false);
      $("search-open").focus();
    });
    $("search").addEventListener("submit", (event) => event.preventDefault());
    $("search").addEventListener("change", () => this.#find());
    $("save-all").addEventListener("click", () => this.#save());
  }

  /** What may be ordered is what may be searched for. */
  knowTypes(types) {
    this.#types = types.map(({ type }) => type);
    this.speakAnew();
  }

  speakAnew() {
    const chosen = $("search-type").value;
    const options = [new Option(say("search.every"), ""), ...this.#types.map((type) => new Option(typeName(type), type))];
    $("search-type").replaceChildren(...options);
    $("search-type").value = chosen;
    this.#nameSave();
  }

  #open(isOpen) {
    $("search").hidden = !isOpen;
    $("search-open").setAttribute("aria-expanded", String(isOpen));
    if (isOpen) return $("search-type").focus();
    $("search").reset();
    this.#find();
  }

  /** {type, created_from, created_before}: those that are chosen.  Days are the reader's own. */
  #wanted() {
    const day = (name, later) => {
      const [year, month, date] = $(name).value.split("-").map(Number);
      return year ? new Date(year, month - 1, date + later).toISOString() : "";
    };
    const all = { type: $("search-type").value, created_from: day("search-from", 0), created_before: day("search-to", 1) };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value));
  }

  #find() {
    const wanted = this.#wanted(), names = Object.keys(wanted);
    const finds = ({ type, created_at }) => (!wanted.type || type === wanted.type)
      && (!wanted.created_from || created_at >= wanted.created_from)
      && (!wanted.created_before || created_at < wanted.created_before);
    const query = names.map((name) => `&${name}=${encodeURIComponent(wanted[name])}`).join("");
    this.#nameSave();
    this.#wall.search(names.length ? { query, finds } : null);
  }

  #nameSave() {
    const name = Object.keys(this.#wanted()).length ? "save.found" : "save.all";
    $("save-all").dataset.say = name;
    $("save-all").textContent = say(name);
  }

  /** The browser's own download: the server makes the file while it sends it, and the page holds none of it. */
  async #save() {
    try {
      const { url, works } = await this.#db.call("POST", "/v1/archives", this.#wanted());
      const link = Object.assign(document.createElement("a"), { href: url, download: "darkroom.zip" });
      link.click();
      this.#announce(say("save.begun", { n: works }));
    } catch (error) {
      this.#announce(error.status === 404 ? say("save.none") : explained(error));
    }
  }
}
