/** What the operators' page is built of: elements, buttons, tables.  Nothing here asks or acts. */

import { tell } from "./ops-words.js";

const GOOD = { live: "good", closed: "good", ready: "good", completed: "good", delivered: "good", done: "good", resumed: "good" };
const BAD = { dead: "bad", open: "bad", failed: "bad", stopped: "bad", gone: "bad" };

/** An element.  `properties`: attributes; `onclick` a listener; children: elements or text, null for none. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "onclick") element.addEventListener("click", value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((each) => each !== null && each !== undefined && each !== ""));
  return element;
}

/** Put new children into a part of the page; what had the focus has it again. */
export function fill(part, ...children) {
  const key = part.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  part.replaceChildren(...children.filter(Boolean));
  if (key) part.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

export function button(what, target, act) {
  const label = tell(what);
  return make("button", { type: "button", class: "small", "data-key": `${what}:${target}`, "data-act": what,
    "data-target": target, "aria-label": `${label}: ${target}`, onclick: act }, label);
}

const LONGEST_WORD = 40; // letters of what stays in one piece: codes, types, times; a Chinese character is as wide as two

export const state = (text, kind) => make("span", { class: `state ${kind ?? ""}` }, text);
export const kindOf = (text) => GOOD[text] ?? BAD[text] ?? "wait";
/** The status of a task. */
export const status = (text) => state(tell(`status.${text}`), kindOf(text));
/** The first lines of what may be long and is told in full elsewhere. */
export const excerpt = (text) => make("span", { class: "excerpt", title: text }, text);
export const mono = (text) => make("span", { class: "mono" }, text ?? "–");
export const taskLink = (id, onTask) => make("button", { type: "button", class: "link-like mono", "data-key": `task:${id}`, onclick: () => onTask(id) }, id);

export const userLink = (user, onUser) => make("button", { type: "button", class: "link-like", "data-key": `user:${user}`, onclick: () => onUser(user) }, user);

/** A button of admins. */
export const forAdmins = (made) => {
  made.dataset.for = "admin";
  return made;
};

const widthOf = (text) => text.replace(/[^\u0000-\u2e7f]/g, "xx").length;
const isLong = (cell) => cell.className === "excerpt" || (typeof cell === "string" && widthOf(cell) > LONGEST_WORD);

/** A table under a heading.  columns: [[title, isNumber?]], the last may be "" for what can be done. */
export function table(title, columns, rows, aside) {
  const head = make("div", { class: "head" }, make("h2", {}, title), aside ?? null);
  if (!rows.length) return [head, make("p", { class: "hint" }, tell("none"))];
  const cells = (row) => row.map((cell, n) => make("td", {
    class: columns[n][0] === "" ? "act" : columns[n][1] ? "number" : isLong(cell) ? "long" : null, "data-title": columns[n][0] || null,
  }, ...(Array.isArray(cell) ? cell : [cell])));
  return [head, make("table", {},
    make("thead", {}, make("tr", {}, ...columns.map(([name, isNumber]) => name === "" ? make("td", {}) : make("th", { scope: "col", class: isNumber ? "number" : null }, name)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row.map((cell, n) => columns[n][0] === "" ? cell : cell === "" ? "–" : cell ?? "–"))))))];
}
