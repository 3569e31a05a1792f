/**
 * The console: hand in a photo, watch it develop, keep the print.
 *
 * Built on the client (`darkroom.js`), as any front end may be: works come from its `watch`, which outlives restarts
 * and networks; everything else is asked of it.  Here: who is there, the state of the link, credits, the viewer.
 */

import { database } from "./darkroom.js";
import { Order } from "./order.js";
import { Wall } from "./prints.js";
import { age, say, showWords, switchLanguage, translated, typeName } from "./words.js";

const TOKEN_KEY = "darkroom.token";
const $ = (id) => document.getElementById(id);

const announce = (text) => { $("said").textContent = text; };

// ---------------------------------------------------------------- who is there

let letIn = [];
const token = () => sessionStorage.getItem(TOKEN_KEY) ?? "";

/** The token as the client asks for it; a refused one is asked of whoever sits there. */
function giveToken({ fresh, reason }) {
  if (!fresh) return token();
  askForToken(token() ? translated("error.unauthorized", reason) : "");
  return new Promise((resolve) => letIn.push(resolve));
}

/** Show the dialog; `why` is what was wrong with the last token.  A new browser on the server's own host needs a link, no token. */
function askForToken(why, isNewBrowser = false) {
  sessionStorage.removeItem(TOKEN_KEY);
  $("token-title").dataset.say = isNewBrowser ? "new.browser" : "who";
  $("token-hint").dataset.say = isNewBrowser ? "new.browser.hint" : "who.hint";
  showWords($("token-dialog"));
  $("token-problem").textContent = why;
  $("token-problem").hidden = !why;
  if (!$("token-dialog").open) $("token-dialog").showModal();
}

function onToken(event) {
  event.preventDefault();
  const given = $("token").value.trim();
  if (!given) return;
  sessionStorage.setItem(TOKEN_KEY, given);
  $("token").value = "";
  $("token-dialog").close();
  showUser();
  const waiting = letIn;
  letIn = [];
  if (waiting.length) waiting.forEach((resolve) => resolve(given));
  else location.reload();  // the watch has ended: begin anew
}

function showUser() {
  const given = token();
  $("user").hidden = !given;
  if (!given) return;
  let name = say("signed.in");
  try {
    name = String(JSON.parse(atob(given.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).sub);
  } catch { /* the server will say what is wrong with it */ }
  $("user").textContent = name;
  $("user").title = say("leave");
}

function leave() {
  sessionStorage.removeItem(TOKEN_KEY);
  location.reload();
}

// ---------------------------------------------------------------- credits

let creditsDue = null, statement = null;

function refreshCredits() {
  clearTimeout(creditsDue);
  creditsDue = setTimeout(async () => {
    statement = await db.credits().catch(() => statement);
    showCredits();
  }, 250);
}

function showCredits() {
  if (!statement) return;
  const balance = statement.balance.toLocaleString();
  $("credits").textContent = say("credits", { n: balance });
  $("ledger-balance").textContent = balance;
  $("credits").hidden = false;
  $("ledger").replaceChildren(...statement.entries.map(entryRow));
}

function entryRow(entry) {
  const row = document.createElement("li"), what = document.createElement("span");
  const when = document.createElement("time"), amount = document.createElement("b");
  what.textContent = say(`credits.${entry.kind}`);
  when.dateTime = entry.at;
  when.textContent = age(entry.at);
  amount.textContent = entry.amount > 0 ? `+${entry.amount}` : `−${-entry.amount}`;
  amount.className = entry.amount > 0 ? "plus" : "";
  row.append(what, when, amount);
  return row;
}

// ---------------------------------------------------------------- viewer

let viewed = null;  // {doc, n}

function openViewer(doc, n) {
  viewed = { doc, n };
  showViewed();
  if (!$("viewer").open) $("viewer").showModal();
}

function showViewed() {
  const { doc, n } = viewed, image = doc.images[n], all = doc.images.length;
  const picture = $("viewer").querySelector("img");
  picture.src = image.url;
  picture.alt = say("viewed", { what: typeName(doc.type), n: n + 1, all });
  $("viewer-text").textContent = say("place", { n: n + 1, all, width: image.width, height: image.height });
  $("viewer-save").href = image.url;
  $("viewer-save").download = image.url.split("?")[0].split("/").pop();
  for (const button of $("viewer").querySelectorAll("[data-turn]")) button.hidden = all < 2;
}

function turn(step) {
  if (!viewed) return;
  const { length } = viewed.doc.images;
  viewed.n = (viewed.n + step + length) % length;
  showViewed();
}

// ---------------------------------------------------------------- everything together

const db = database({ token: giveToken, compat: false });
const wall = new Wall(db, { announce, onEnd: refreshCredits, onOpen: openViewer });
const order = new Order(db, (accepted, address) => {
  wall.remember(accepted.work_id, address);
  announce(say("submitted"));
  refreshCredits();
  if (matchMedia("(max-width: 859px)").matches) $("prints-title").scrollIntoView({ behavior: "smooth" });
});

let linkState = "connecting";

function showLink() {
  const state = linkState === "lost" && !navigator.onLine ? "offline" : linkState;
  $("link").dataset.state = state;
  $("link-text").textContent = say(`link.${state}`);
}

function onState(state) {
  linkState = state;
  showLink();
}

function onError(error) {
  onState("lost");
  if (error.status === 401 || error.status === 403) {
    askForToken(token() ? translated("error.unauthorized", error.message) : "", error.kind === "start_link_needed");
  } else announce(error.message);
}

function speakAnew() {
  switchLanguage();
  order.show();
  wall.speakAnew();
  showLink();
  showUser();
  showCredits();
}

function listen() {
  $("language").addEventListener("click", speakAnew);
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
  $("ledger-dialog").addEventListener("click", ({ target, currentTarget }) => { if (target === currentTarget) target.close(); });
  for (const name of ["online", "offline"]) addEventListener(name, showLink);
}

showWords(document);
listen();
showUser();
showLink();
wall.watch({ onState, onError });
