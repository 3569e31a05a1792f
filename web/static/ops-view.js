/** How the operators' page looks: from an overview, or one task, to elements.  Nothing here asks or acts. */

import { button, forAdmins, kindOf, make, mono, state, status, table, taskLink, userLink } from "./ops-elements.js";
import { timeline } from "./ops-timeline.js";
import { logs } from "./ops-week.js";
import { clock, pieces, span, tell, told } from "./ops-words.js";
import { errorWords, stageWords } from "./words.js";

/** Values as a sentence says them: spans, times, and the others as they are. */
const said = (values) => Object.fromEntries(Object.entries(values).map(([name, value]) =>
  [name, name.endsWith("_seconds") ? span(value) : name.endsWith("_at") ? clock(value) : name === "what" ? tell(`what.${value}`) : name === "state" ? tell(`process.${value}`) : value ?? "–"]));

export function troubles({ troubles: found }) {
  if (!found.length) return [make("p", { class: "trouble well" }, tell("well"))];
  return found.map((each) => make("p", { class: `trouble ${each.level}`, "data-code": each.code },
    make("span", {}, ...pieces(told(`trouble.${each.code}`, { ...said(each.values), subject: each.subject }, each.text)))));
}

export function tiles(seen) {
  const sum = (rows, name) => rows.reduce((all, row) => all + row[name], 0);
  const live = seen.workers.filter((worker) => worker.state === "live" && worker.is_fresh);
  const stuck = Object.values(seen.stuck_counts).reduce((all, n) => all + n, 0);
  const failed = sum(seen.failures, "count");
  const figures = [
    ["waiting", sum(seen.queue, "pending")],
    ["running", sum(seen.queue, "processing") + sum(seen.queue, "ai_processing")],
    ["stuck", stuck, stuck > 0],
    ["slots", `${live.reduce((all, w) => all + Math.max(w.busy, w.held), 0)} / ${sum(live, "slots")}`],
    ["workers", live.length, live.length === 0],
    ["failed", failed, failed > 0],
  ];
  return figures.map(([name, figure, isBad]) => make("p", { class: `tile ${isBad ? "bad" : ""}`, "data-name": name },
    make("b", {}, String(figure)), make("span", {}, tell(`tile.${name}`))));
}

export function charts({ samples }) {
  return ["pending", "running", "completed", "failed"].map((name) => {
    const values = samples.map((sample) => sample[name]), top = Math.max(1, ...values);
    const points = values.map((value, n) => `${n ? "L" : "M"}${(n / Math.max(1, values.length - 1)) * 100},${30 - (value / top) * 28}`);
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "0 0 100 30");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", points.join(""));
    if (name === "failed") path.setAttribute("class", "bad");
    svg.append(path);
    const last = values.length > 1 ? `${values.at(-1)} (≤ ${top})` : tell("chart.none");
    return make("figure", { class: "chart" }, make("figcaption", {}, make("span", {}, tell(`chart.${name}`)), make("span", {}, last)), svg);
  });
}

export function queue(seen, acts) {
  const rows = seen.queue.map((each) => [
    [each.type, " ", each.is_paused ? state(tell("paused"), "wait") : each.has_worker ? "" : state(tell("no.worker"), "bad")], String(each.pending), String(each.due), span(each.oldest_seconds),
    String(each.processing), String(each.ai_processing), each.provider,
    each.provider === null ? "" : each.is_paused ? button("resume", each.type, () => acts.resume("type", each.type)) : button("pause", each.type, () => acts.pause("type", each.type)),
  ]);
  return table(tell("queue"), [[tell("type")], [tell("waits"), 1], [tell("due"), 1], [tell("oldest"), 1], [tell("runs"), 1], [tell("remote"), 1], [tell("provider")], [""]], rows);
}

/** The first of all that wait, in the order in which they run. */
export function line(seen, acts) {
  const rows = seen.line.map((each) => [String(each.position), taskLink(each.task_id, acts.task), userLink(each.user_openid, acts.user), each.type, span(each.waiting_seconds), String(each.priority)]);
  return table(tell("line"), [[tell("position")], [tell("task")], [tell("user")], [tell("type")], [tell("waits.for"), 1], [tell("priority"), 1]], rows);
}

export function stuck(seen, acts) {
  const rows = seen.stuck.map((each) => [taskLink(each.task_id, acts.task), userLink(each.user_openid, acts.user), each.type, state(each.reason, "bad"), `${each.progress}`,
    button("show", each.task_id, () => acts.task(each.task_id))]);
  return table(tell("stuck"), [[tell("task")], [tell("user")], [tell("type")], [tell("reason.of")], [tell("progress"), 1], [""]], rows);
}

export function running(seen, acts) {
  const rows = seen.running.map((each) => [taskLink(each.task_id, acts.task), userLink(each.user_openid, acts.user), each.type, stageWords(each.stage), String(each.progress), span(each.running_seconds), span(each.unchanged_seconds),
    mono(each.worker?.slice(-6)), String(each.lease), clock(each.deadline_at)]);
  return table(tell("running"), [[tell("task")], [tell("user")], [tell("type")], [tell("stage")], [tell("progress"), 1], [tell("for"), 1], [tell("unchanged"), 1], [tell("worker")], [tell("lease"), 1], [tell("deadline")]], rows);
}

export function workers(seen, acts) {
  const stateOf = (each) => each.is_fresh || each.state === "dead" ? state(tell(each.state === "live" ? "live.worker" : each.state), kindOf(each.state)) : state(tell("silent"), "bad");
  const rows = seen.workers.map((each) => [mono(each.id), each.host, stateOf(each),
    `${Math.max(each.busy, each.held)} / ${each.slots}`, [each.offers, each.types?.join(", ")].filter(Boolean).join("; "), tell("ago", { time: span(each.silent_seconds) }),
    each.state === "live" ? button("drain", each.id, () => acts.drain(each.id)) : ""]);
  const processes = seen.processes.map((each) => [each.name, state(tell(`process.${each.state}`), kindOf(each.state)), String(each.pid ?? "–"), String(each.restarts), each.last_exit?.text]);
  return [...table(tell("workers"), [[tell("worker")], [tell("host")], [tell("state")], [tell("slots"), 1], [tell("offers")], [tell("beat"), 1], [""]], rows),
    ...(processes.length ? table("", [[tell("process")], [tell("state")], ["pid", 1], [tell("restarts"), 1], [tell("last")]], processes).slice(1) : [])];
}

export function providers(seen, acts) {
  const rows = seen.providers.map((each) => [each.name, each.types.join(", "), state(each.is_paused ? tell("paused") : tell(each.breaker), each.is_paused ? "wait" : kindOf(each.breaker)),
    clock(each.opened_at), each.reason, each.breaker === "open" ? clock(each.until) : "–", String(each.open_jobs),
    each.is_paused ? button("resume", each.name, () => acts.resume("provider", each.name)) : button("pause", each.name, () => acts.pause("provider", each.name))]);
  return table(tell("providers"), [[tell("provider")], [tell("type")], [tell("state")], [tell("since")], [tell("reason.of")], [tell("until")], [tell("jobs"), 1], [""]], rows);
}

export function webhooks({ webhooks: of }, acts) {
  const figures = Object.entries({ ...of.open, ...of.ended }).map(([name, count]) => tell(`webhooks.${name}`, { n: count })).join(", ");
  const rows = of.addresses.map((each) => [userLink(each.user_openid, acts.user), each.url, state(tell(each.gone_since ? "gone" : "failing"), "bad"), `${each.owed} / ${each.given_up}`,
    each.last_error, clock(each.next_at), taskLink(each.task_id, acts.task), button("resend", each.webhook_id, () => acts.resend(each.webhook_id))]);
  const [head, ...rest] = table(tell("webhooks"), [[tell("user")], [tell("address")], [tell("state")], [tell("owed"), 1], [tell("last.error")], [tell("next")], [tell("task")], [""]], rows);
  return [head, make("p", { class: "hint" }, figures), ...(rows.length ? rest : [])];
}

export function failures(seen, acts) {
  const rows = seen.failures.map((each) => [mono(each.code), each.type, String(each.count), errorWords(each.code, each.message), clock(each.last_at), taskLink(each.last_task, acts.task)]);
  return table(tell("failures"), [[tell("code")], [tell("type")], [tell("count"), 1], [tell("error")], [tell("last")], [tell("task")]], rows);
}

export function sweeps(seen, acts) {
  const did = (counts) => Object.entries(counts).filter(([, n]) => n).map(([name, n]) => tell(`did.${name}`, { n })).join(", ") || "–";
  const rows = seen.sweeps.map((each) => [clock(each.started_at), did(each.counts), each.finished_at ? span((Date.parse(each.finished_at) - Date.parse(each.started_at)) / 1000) : "…"]);
  return table(tell("sweeps"), [[tell("minute")], [tell("did")], [tell("for"), 1]], rows, button("sweep", "", acts.sweep));
}

const UNDONE_BY = { pause: "resume", resume: "pause", cancel: "retry", retry: "cancel", block: "unblock", unblock: "block", bulk_stop: "bulk_resume" };
const UNDONE_ABOVE = ["bulk_retry", "bulk_cancel", "bulk_resume"]; // where the action stands, it can be stopped
const CHANGES_NO_STATE = ["resend", "grant", "revoke"]; // whatever was done to the same thing before can still be undone

/** Who acted, and in which role; rows of earlier releases name none. */
const byWhom = ({ operator, role }) => role ? `${operator} (${tell(`role.${role}`)})` : operator;

/** What undoes an action. */
function undoing({ action, kind, target }, isNewest, acts) {
  const inverse = UNDONE_BY[action];
  if (!inverse) return UNDONE_ABOVE.includes(action) ? "" : make("span", { class: "hint" }, tell("no.undo"));
  if (!isNewest) return "";
  const run = ["type", "provider"].includes(kind) ? () => acts[inverse](kind, target) : () => acts[inverse](target);
  const made = button("undo", `${action} ${target}`, run);
  return kind === "user" ? forAdmins(made) : made;
}

/** Only the newest action on something can be undone, and only one that has an inverse. */
export function audit(entries, acts) {
  const seen = new Set();
  const rows = entries.map((each) => {
    const isNewest = !seen.has(`${each.kind}:${each.target}`);
    if (!CHANGES_NO_STATE.includes(each.action)) seen.add(`${each.kind}:${each.target}`);
    return [clock(each.at), byWhom(each), tell(each.action), `${tell(`of.${each.kind}`)} ${each.target}`, each.after?.reason ?? "–", undoing(each, isNewest, acts)];
  });
  return table(tell("audit"), [[tell("at")], [tell("who.did")], [tell("action")], [tell("what")], [tell("reason.of")], [""]], rows);
}

export function found(items, acts) {
  const rows = items.map((each) => [taskLink(each.task_id, acts.task), userLink(each.user_openid, acts.user), each.type, status(each.status), String(each.progress), String(each.queue_position ?? "–"), clock(each.created_at), each.error?.code]);
  return rows.length ? table(tell("found"), [[tell("task")], [tell("user")], [tell("type")], [tell("status")], [tell("progress"), 1], [tell("position"), 1], [tell("created")], [tell("error")]], rows)
    : [make("p", { class: "hint" }, tell("found.none"))];
}

/** Why the task is where it is, what becomes of it by itself, and what can be done. */
export function why({ why: { code, values } }) {
  return tell(`why.${code}`, said(values));
}

export function task(found, acts) {
  const { task: of } = found, isOpen = ["pending", "processing", "ai_processing"].includes(of.status);
  const facts = [["user", userLink(of.user_openid, acts.user)], ["type", of.type], ["status", tell(`status.${of.status}`)], ["stage", stageWords(of.stage)], ["progress", of.progress], ["unchanged", span(of.unchanged_seconds)],
    ["attempt", tell("attempt.said", { attempt: of.attempt, failures: of.failures, most: of.max_attempts })], ["lease", of.lease], ["charge", of.charge], ["failures.of", `${of.failures}, ${of.deaths}`],
    ["worker", of.worker ?? "–"], ["beat", found.worker ? tell("ago", { time: span(found.worker.silent_seconds) }) : "–"],
    ["deadline", of.limit_at ? tell("deadline.said", { limit: clock(of.limit_at), stuck: clock(of.deadline_at) }) : clock(of.deadline_at ?? of.remote_deadline_at)], ["run_after", clock(of.run_after)], ["poll", clock(of.next_poll_at)], ["created", clock(of.created_at)], ["position", found.queue_position ?? "–"], ["eta", span(found.eta_seconds)]];
  const doable = [isOpen ? "cancel" : null, ["failed", "cancelled"].includes(of.status) ? "retry" : null,
    of.status !== "pending" && isOpen || (of.status === "pending" && of.run_after && found.why.code !== "pending.rate_limited") ? "release" : null].filter(Boolean);
  return [
    make("p", { class: "why", id: "why" }, ...pieces(why(found))),
    make("p", { class: "acts" }, ...doable.map((what) => button(what, of.task_id, () => acts[what](of.task_id)))),
    make("dl", { class: "facts" }, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, tell(name)), make("dd", {}, value instanceof Node ? value : String(value))))),
    ...(found.steps.length ? [make("h3", {}, tell("steps")), ...table("", [[tell("step")], [tell("state")], [tell("progress"), 1], [tell("for"), 1], [tell("cost"), 1]],
      found.steps.map((each) => [each.name, state(tell(`step.${each.status}`), kindOf(each.status)), String(each.progress), span(each.run_seconds),
        Object.entries(each.cost).map(([unit, amount]) => `${amount} ${unit}`).join(", ") || "–"])).slice(1)] : []),
    make("h3", {}, tell("timeline")), timeline(found.events, found.webhooks),
    ...logs(found.logs),
    ...toldTo(found.webhooks, acts),
    ...(found.remote_jobs.length ? [make("h3", {}, tell("remote.jobs")), ...table("", [[tell("at")], [tell("provider")], [tell("state")], ["id"], [tell("lease"), 1]],
      found.remote_jobs.map((job) => [clock(job.created_at), job.provider, state(job.state, kindOf(job.state)), mono(job.remote_id), String(job.lease)])).slice(1)] : []),
    ...(found.costs.length ? [make("h3", {}, tell("costs")), ...table("", [[tell("at")], [tell("provider")], [tell("attempt"), 1], [tell("lease"), 1], [tell("cost"), 1]],
      found.costs.map((each) => [clock(each.at), each.provider, String(each.attempt), String(each.lease), `${each.cost} ${each.unit}`])).slice(1)] : []),
    ...(found.audit.length ? [make("h3", {}, tell("by.operators")), make("ul", { class: "timeline" }, ...found.audit.map((each) =>
      make("li", {}, make("time", {}, clock(each.at)), make("i", {}, ""), make("span", {}, `${tell(each.action)} · ${byWhom(each)}`))))] : []),
  ];
}

/** What the task's webhook was told, and telling it again. */
function toldTo(deliveries, acts) {
  if (!deliveries.length) return [];
  const rows = deliveries.map((each) => [mono(each.id), each.url, state(tell(`webhook.${each.state}`), kindOf(each.state)), String(each.attempts),
    each.last_error, each.state === "waiting" ? clock(each.due_at) : "–", button("resend", each.id, () => acts.resend(each.id))]);
  return [make("h3", {}, tell("webhooks")), ...table("", [["id"], [tell("address")], [tell("state")], [tell("attempts"), 1], [tell("last.error")], [tell("next")], [""]], rows).slice(1)];
}
