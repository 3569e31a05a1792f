/** One picture as large as the window, and beside it the photo that it was made from: a slider goes from one to the other. */

import { say, typeName } from "./words.js";

const $ = (id) => document.getElementById(id);

/** `inputsOf(doc)` gives a promise of the uploads that a work was ordered with: [{kind, url}]. */
export class Viewer {
  #inputsOf;
  #viewed = null;  // {doc, n}
  #before = "";  // address of the photo before
  #part;

  constructor(inputsOf) {
    this.#inputsOf = inputsOf;
    this.#part = (selector) => $("viewer").querySelector(selector);
    $("viewer-compare").addEventListener("click", () => this.#compare($("compare").hidden));
    $("compare").addEventListener("input", () => this.#slide());
    for (const button of document.querySelectorAll("[data-turn]")) {
      button.addEventListener("click", () => this.#turn(Number(button.dataset.turn)));
    }
    $("viewer").addEventListener("keydown", (event) => {
      if (event.target === $("compare")) return;  // whose arrows move the slider
      if (event.key === "ArrowLeft") this.#turn(-1);
      if (event.key === "ArrowRight") this.#turn(1);
    });
    $("viewer").addEventListener("close", () => { this.#viewed = null; });
  }

  open(doc, n) {
    this.#viewed = { doc, n };
    this.#before = "";
    this.#compare(false);
    this.show();
    if (!$("viewer").open) $("viewer").showModal();
    this.#learn(doc);
  }

  show() {
    if (!this.#viewed) return;
    const { doc, n } = this.#viewed, image = doc.images[n], all = doc.images.length, picture = this.#part(".after");
    picture.src = image.url;
    picture.alt = say("viewed", { what: typeName(doc.type), n: n + 1, all });
    this.#part(".seen").style.setProperty("--shape", image.width / image.height);
    this.#part(".before").alt = say("compare.before");
    $("viewer-text").textContent = say("place", { n: n + 1, all, width: image.width, height: image.height });
    $("viewer-save").href = image.url;
    $("viewer-save").download = image.url.split("?")[0].split("/").pop();
    $("viewer-compare").hidden = !this.#before;
    for (const button of $("viewer").querySelectorAll("[data-turn]")) button.hidden = all < 2;
  }

  async #learn(doc) {
    const inputs = await this.#inputsOf(doc).catch(() => []);
    if (this.#viewed?.doc !== doc) return;
    this.#before = inputs.find(({ kind, url }) => kind === "images" && url)?.url ?? "";
    this.show();
  }

  #compare(isOn) {
    const before = this.#part(".before");
    $("viewer-compare").setAttribute("aria-pressed", String(isOn));
    $("compare").hidden = before.hidden = !isOn;
    if (!isOn) return before.removeAttribute("src");
    before.src = this.#before;
    $("compare").value = 50;
    this.#slide();
    $("compare").focus();
  }

  #slide() {
    this.#part(".seen").style.setProperty("--at", `${$("compare").value}%`);
    $("compare").setAttribute("aria-valuetext", `${$("compare").value} %`);
  }

  #turn(step) {
    if (!this.#viewed) return;
    const { length } = this.#viewed.doc.images;
    this.#viewed.n = (this.#viewed.n + step + length) % length;
    this.show();
  }
}
