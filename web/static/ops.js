/**
 * The operators' page: everything is asked for each two seconds while somebody looks; every action is confirmed, and
 * recorded by the server.  How it looks is `ops-view.js`.
 */

import * as bulk from "./ops-bulk.js";
import { fill } from "./ops-elements.js";
import { clock, showOpsWords, tell, told } from "./ops-words.js";
import { user } from "./ops-user.js";
import * as view from "./ops-view.js";
import * as week from "./ops-week.js";
import { spoken, switchLanguage } from "./words.js";

const LOOK_MS = 2_000, LOOK_BACK_MS = 60_000, COMPLAINT_MS = 8_000;
const TOKEN_KEY = "darkroom.token";
const BLOCKS = ["stuck", "queue", "running", "providers", "workers", "webhooks", "line", "failures", "sweeps"];
const $ = (id) => document.getElementById(id);

let seen = null, looked = null, openTask = null, openUser = null, drawn = {}, timer = null, previewed = null, lookedBack = -LOOK_BACK_MS, back = null, dead = null;

class Refused extends Error {
  constructor(status, text, type = "") {
    const kind = type.split(":").at(-1);
    super(told(`problem.${kind}`, { text }, text));
    this.status = status;
    this.isNewBrowser = kind === "start_link_needed";
  }
}

/** The JSON answer.  Throws Refused with the server's sentence. */
async function ask(method, path, body) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...(body ? { "Content-Type": "application/json" } : {}) };
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(60_000) });
  const answer = response.status === 204 ? null : await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer?.detail ?? `${response.status}`, answer?.type);
  return answer;
}

// ---------------------------------------------------------------- what is seen

async function look() {
  clearTimeout(timer);
  if (document.visibilityState === "visible" && !$("token-dialog").open) {
    try {
      seen = await ask("GET", "/v1/ops/overview");
      looked = seen.at;
      if (openTask) await lookAtTask();
      if (openUser) await lookAtUser();
      if (performance.now() - lookedBack > LOOK_BACK_MS) await lookBack();
      showLink("live");
      draw();
    } catch (error) {
      if (error.status === 401 || error.status === 403) askForToken(sessionStorage.getItem(TOKEN_KEY) ? error.message : "", error.isNewBrowser);
      else showLink("lost");
    }
  }
  timer = setTimeout(look, LOOK_MS);
}

/** What changes by the minute. */
async function lookBack() {
  lookedBack = performance.now();
  back = await ask("GET", "/v1/ops/history");
  if ($("dead-letters").open) dead = await ask("GET", "/v1/ops/dead-letters");
}

/** What was asked for and can't be shown or done, over an open dialog too. */
function complain(error) {
  const refused = $("refused");
  refused.textContent = error.message;
  refused.showPopover();
  clearTimeout(refused.over);
  refused.over = setTimeout(() => refused.hidePopover(), COMPLAINT_MS);
}

function showLink(state) {
  $("link").dataset.state = state;
  $("link-text").textContent = tell(state === "lost" && !looked ? "connecting" : state, { time: clock(looked) });
}

/** Draw what has changed, so that a selection or a scroll position elsewhere stays. */
function draw() {
  const put = (id, children, of) => {
    const fingerprint = spoken() + JSON.stringify(of);
    if (drawn[id] === fingerprint) return;
    drawn[id] = fingerprint;
    fill($(id), ...children());
  };
  put("troubles", () => view.troubles(seen), seen.troubles);
  put("tiles", () => view.tiles(seen), seen);
  put("charts", () => view.charts(seen), seen.samples);
  for (const name of BLOCKS) put(name, () => view[name](seen, acts), seen);
  document.body.dataset.role = seen.you.role;
  if (back) {
    put("week", () => week.week(back), back);
    put("deploys", () => week.deploys(back), back.deploys);
  }
  if (dead) put("dead", () => week.dead(dead, acts), dead);
  put("bulk-fields", () => bulk.fields(seen.queue.map((each) => each.type), seen.providers.map((each) => each.name)), [seen.queue.map((each) => each.type), seen.providers.map((each) => each.name)]);
  put("bulk-list", () => bulk.list(seen.bulk, acts), seen.bulk);
  put("audit", () => view.audit(seen.audit, acts), seen.audit);
  const bad = seen.troubles.filter((each) => each.level === "bad").length;
  document.title = `${bad ? `(${bad}) ` : ""}Darkroom · ${tell("title")}`;
}

// ---------------------------------------------------------------- one task

async function showTask(id) {
  openTask = id;
  try {
    await lookAtTask();
    if (!$("task-dialog").open) $("task-dialog").showModal();
  } catch (error) {
    openTask = null;
    complain(error);
  }
}

async function lookAtTask() {
  const found = await ask("GET", `/v1/ops/tasks/${encodeURIComponent(openTask)}`);
  $("task-title").textContent = found.task.task_id;
  fill($("task-body"), ...view.task(found, acts));
}

// ---------------------------------------------------------------- one user

async function showUser(name) {
  openUser = name;
  try {
    await lookAtUser();
    if ($("task-dialog").open) $("task-dialog").close();
    if (!$("user-dialog").open) $("user-dialog").showModal();
  } catch (error) {
    openUser = null;
    complain(error);
  }
}

async function lookAtUser() {
  const found = await ask("GET", ofUser(openUser));
  $("user-title").textContent = found.user;
  fill($("user-body"), ...user(found, acts));
}

async function find(event) {
  event.preventDefault();
  const wanted = $("wanted").value.trim();
  if (!wanted) return;
  $("found").hidden = true;
  let items = [];
  if (/^[A-Za-z0-9_-]{1,64}$/.test(wanted)) {
    const one = await ask("GET", `/v1/ops/tasks/${wanted}`).catch(() => null);
    if (one) items = [one.task];
  }
  if (!items.length) items = (await ask("GET", `/v1/ops/tasks?user=${encodeURIComponent(wanted)}`).catch(() => ({ items: [] }))).items;
  if (!items.length && await ask("GET", ofUser(wanted)).catch(() => null)) return showUser(wanted); // one whose tasks are all deleted, or who has none
  if (!items.length) items = (await ask("GET", `/v1/ops/tasks?text=${encodeURIComponent(wanted)}`).catch(() => ({ items: [] }))).items;
  $("found").hidden = false;
  fill($("found"), ...view.found(items, acts));
  if (items.length === 1) showTask(items[0].task_id);
  else if (items.length && items.every((each) => each.user_openid === wanted)) showUser(wanted);
}

// ---------------------------------------------------------------- many tasks

async function onBulk(event) {
  event.preventDefault();
  $("bulk-problem").hidden = true;
  const asked = bulk.asked($("bulk-form"));
  try {
    if (!Object.keys(asked.filter).length) throw new Error(tell("bulk.unnamed"));
    await previewBulk(asked);
  } catch (error) {
    $("bulk-problem").textContent = error.message;
    $("bulk-problem").hidden = false;
  }
}

async function previewBulk(asked) {
  previewed = await ask("POST", "/v1/ops/bulk/preview", asked);
  $("bulk-title").textContent = tell("bulk.title", { action: tell(previewed.action), n: previewed.count });
  fill($("bulk-body"), ...bulk.preview(previewed, acts));
  $("bulk-refusal").hidden = true;
  $("bulk-yes").textContent = tell("bulk.start", { action: tell(previewed.action), n: previewed.count });
  $("bulk-yes").disabled = !previewed.count;
  $("bulk-dialog").showModal();
}

async function startBulk() {
  $("bulk-yes").disabled = true;
  const { action, filter, count } = previewed;
  try {
    await ask("POST", "/v1/ops/bulk", { action, filter, expected: count });
    $("bulk-dialog").close();
    $("said").textContent = tell("done", { what: tell("bulk.started") });
    look();
  } catch (error) {
    $("bulk-refusal").textContent = error.message;
    $("bulk-refusal").hidden = false;
  }
}

// ---------------------------------------------------------------- what is done, each after a question

const acts = {
  task: showTask,
  user: showUser,
  block: (name) => makeSure("block", name, (reason) => ask("POST", ofUser(name, "block"), { reason }), "sure.block", "reason"),
  unblock: (name) => makeSure("unblock", name, () => ask("DELETE", ofUser(name, "block"))),
  grant: (name) => {
    const reference = crypto.randomUUID?.() ?? String(Math.random()); // a second click of the same question grants nothing more
    makeSure("grant", name, (amount) => ask("POST", ofUser(name, "grants"), { amount: Number(amount), reference }), "sure.grant", "amount");
  },
  revoke: (name) => makeSure("revoke", name, () => ask("POST", ofUser(name, "revoke"))),
  cancelAllOf: (name) => previewBulk({ action: "cancel", filter: { user: name } }).catch(complain),
  cancel: (id) => makeSure("cancel", id, () => ask("POST", `/v1/ops/tasks/${id}/cancel`)),
  retry: (id) => makeSure("retry", id, () => ask("POST", `/v1/ops/tasks/${id}/retry`)),
  release: (id) => makeSure("release", id, () => ask("POST", `/v1/ops/tasks/${id}/release`)),
  drain: (id) => makeSure("drain", id, () => ask("POST", `/v1/ops/workers/${id}/drain`)),
  resend: (id) => makeSure("resend", id, () => ask("POST", `/v1/ops/webhooks/${id}/resend`)),
  pause: (kind, name) => makeSure("pause", name, (reason) => ask("POST", "/v1/ops/pauses", { kind, name, reason }), `sure.pause.${kind}`, "reason"),
  resume: (kind, name) => makeSure("resume", name, () => ask("DELETE", `/v1/ops/pauses/${kind}/${encodeURIComponent(name)}`)),
  bulk_stop: (id) => makeSure("bulk_stop", id, () => ask("POST", `/v1/ops/bulk/${id}/stop`)),
  bulk_resume: (id) => makeSure("bulk_resume", id, () => ask("POST", `/v1/ops/bulk/${id}/resume`)),
  sweep: () => makeSure("sweep", "", () => ask("POST", "/v1/ops/sweep")),
};

const ofUser = (name, ...what) => ["/v1/ops/users", encodeURIComponent(name), ...what].join("/");

/** Say what will happen, and do it when that is meant.  asksFor: "reason" or "amount", which the act is given. */
function makeSure(what, target, act, text = `sure.${what}`, asksFor = "") {
  $("sure-title").textContent = `${tell(what)} ${target}`.trim();
  $("sure-text").textContent = tell(text);
  $("sure-why").hidden = !asksFor;
  $("sure-asks").dataset.tell = asksFor || "reason";
  $("sure-asks").textContent = tell(asksFor || "reason");
  $("sure-reason").inputMode = asksFor === "amount" ? "numeric" : "text";
  $("sure-reason").value = "";
  $("sure-problem").hidden = true;
  $("sure-yes").textContent = tell(what);
  $("sure-yes").disabled = false;
  $("sure-form").onsubmit = async (event) => {
    event.preventDefault();
    $("sure-yes").disabled = true;
    try {
      await act($("sure-reason").value.trim());
      $("sure-dialog").close();
      $("said").textContent = tell("done", { what: `${tell(what)} ${target}`.trim() });
      look();
    } catch (error) {
      $("sure-problem").textContent = error.message;
      $("sure-problem").hidden = false;
      $("sure-yes").disabled = false;
    }
  };
  $("sure-dialog").showModal();
}

// ---------------------------------------------------------------- who is there

function askForToken(why, isNewBrowser = false) {
  sessionStorage.removeItem(TOKEN_KEY);
  $("token-title").dataset.tell = isNewBrowser ? "new.browser" : "who";
  $("token-hint").dataset.tell = isNewBrowser ? "new.browser.hint" : "who.hint";
  showOpsWords();
  $("token-problem").textContent = why;
  $("token-problem").hidden = !why;
  if (!$("token-dialog").open) $("token-dialog").showModal();
}

function onToken(event) {
  event.preventDefault();
  sessionStorage.setItem(TOKEN_KEY, $("token").value.trim());
  $("token").value = "";
  $("token-dialog").close();
  look();
}

function listen() {
  $("search").addEventListener("submit", find);
  $("token-form").addEventListener("submit", onToken);
  $("dead-letters").addEventListener("toggle", () => { lookedBack = -LOOK_BACK_MS; look(); });
  $("bulk-form").addEventListener("submit", onBulk);
  $("bulk-yes").addEventListener("click", startBulk);
  for (const id of ["bulk-no", "bulk-close"]) $(id).addEventListener("click", () => $("bulk-dialog").close());
  $("sure-no").addEventListener("click", () => $("sure-dialog").close());
  $("task-close").addEventListener("click", () => $("task-dialog").close());
  $("task-dialog").addEventListener("close", () => { openTask = null; });
  $("user-close").addEventListener("click", () => $("user-dialog").close());
  $("user-dialog").addEventListener("close", () => { openUser = null; });
  $("language").addEventListener("click", () => {
    switchLanguage();
    showOpsWords();
    showLink($("link").dataset.state);
    if (seen) draw();
    if (openTask) lookAtTask();
    if (openUser) lookAtUser();
  });
  document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") look(); });
}

showOpsWords();
listen();
look();
