/**
 * The console: hand in a photo, watch it develop, keep the print.
 *
 * Built on the client (`darkroom.js`), as any front end may be: works come from its `watch`, which outlives restarts
 * and networks; everything else is asked of it.  Here: who is there, the state of the link, credits.
 */

import { database } from "./darkroom.js";
import { offerNotifications, showBell, tellOf } from "./notify.js";
import { Order } from "./order.js";
import { Wall } from "./prints.js";
import { Search } from "./search.js";
import { Sharing } from "./share.js";
import { Viewer } from "./viewer.js";
import { age, explained, say, showWords, switchLanguage, translated } from "./words.js";

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

let creditsDue = null, statement = null, newestEntries = new Map();  // {task id: its newest entry}

function refreshCredits() {
  clearTimeout(creditsDue);
  creditsDue = setTimeout(async () => {
    statement = await db.credits().catch(() => statement);
    newestEntries = new Map((statement?.entries ?? []).toReversed().map((entry) => [entry.task_id, entry]));
    showCredits();
    wall.showRefunds();
  }, 250);
}

const older = new Map();  // {task id: credits that came back}, of tasks that the newest entries don't name

/**
 * The credits that came back for a work that has ended: the newest entry of its task is then a refund.  Of a work that
 * is older than the entries that are known, `onceNear(ask)` asks when its card comes near.
 */
function refundOf({ task_id, status, updated_at }, onceNear) {
  const oldest = statement?.entries.at(-1), newest = newestEntries.get(task_id);
  if (newest) return newest.kind === "refund" ? newest.amount : 0;
  const isOlder = oldest && updated_at < oldest.at;
  if (isOlder && status !== "completed" && !older.has(task_id)) onceNear(() => askForRefund(task_id));
  return older.get(task_id) ?? 0;
}

async function askForRefund(taskId) {
  const { items } = await db.call("GET", `/v1/tasks/${taskId}/events`);
  const moved = items.findLast(({ credits }) => credits !== null);
  older.set(taskId, moved?.event === "refunded" ? moved.credits : 0);
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

// ---------------------------------------------------------------- everything together

const db = database({ token: giveToken, compat: false });
const orderOf = (doc) => db.call("GET", `/v1/tasks/${doc.task_id}/order`);
const viewer = new Viewer((doc) => orderOf(doc).then(({ inputs }) => inputs));
const sharing = new Sharing(db, announce);
const wall = new Wall(db, {
  announce,
  onEnd: refreshCredits,
  onOpen: (doc, n) => viewer.open(doc, n),
  onAgain: orderAgain,
  onShare: (doc) => sharing.open(doc),
  onDone: tellOf,
  refundOf,
});
const search = new Search(db, wall, announce);
const order = new Order(db, (accepted, address) => {
  wall.remember(accepted.work_id, address);
  announce(say("submitted"));
  refreshCredits();
  if (matchMedia("(max-width: 859px)").matches) $("prints-title").scrollIntoView({ behavior: "smooth" });
}, (types) => {
  search.knowTypes(types);
  wall.showNames();
});

/** The order of a work in the form, to be changed and handed in. */
async function orderAgain(doc) {
  try {
    announce(order.fill(await orderOf(doc)));
    $("order").scrollIntoView({ block: "start", behavior: "smooth" });
    $("submit").focus({ preventScroll: true });
  } catch (error) {
    announce(error.kind === undefined ? error.message : explained(error));
  }
}

let linkState = "connecting";

function showLink() {
  const state = linkState === "lost" && !navigator.onLine ? "offline" : linkState;
  $("link").dataset.state = state;
  $("link-text").textContent = say(`link.${state}`);
  order.showLink(state);
}

function onState(state) {
  linkState = state;
  showLink();
}

function onError(error) {
  onState("lost");
  if (error.status === 401 || error.status === 403) {
    askForToken(token() ? translated("error.unauthorized", error.message) : "", error.kind === "start_link_needed");
  } else announce(explained(error));
}

function speakAnew() {
  switchLanguage();
  order.show();
  wall.speakAnew();
  search.speakAnew();
  sharing.speakAnew();
  viewer.show();
  showBell();
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
  for (const name of ["ledger-dialog", "share-dialog"]) {
    $(name).addEventListener("click", ({ target, currentTarget }) => { if (target === currentTarget) target.close(); });
  }
  for (const name of ["online", "offline"]) addEventListener(name, showLink);
}

showWords(document);
listen();
showUser();
showLink();
offerNotifications(announce);
wall.watch({ onState, onError });
