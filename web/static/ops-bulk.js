/** Actions on many tasks: the form of the filter, what it would concern, and the actions that run or have run. */

import { button, excerpt, make, mono, state, status, table, taskLink, userLink } from "./ops-elements.js";
import { clock, tell } from "./ops-words.js";
import { errorWords } from "./words.js";

const CONDITIONS = ["code", "text", "type", "provider", "user", "from", "to"];

/** What the form says: {action, filter}, without what is left empty. */
export function asked(form) {
  const given = new FormData(form);
  const filter = Object.fromEntries(CONDITIONS.map((name) => [name, given.get(name)?.trim()]).filter(([, value]) => value));
  for (const name of ["from", "to"]) {
    if (filter[name]) filter[name] = new Date(filter[name]).toISOString(); // the page asks for local time
  }
  return { action: given.get("action"), filter };
}

/** The form's fields; it is made once, and again in another language. */
export function fields(types, providers) {
  const options = (names) => ["", ...names].map((name) => make("option", { value: name }, name || tell("bulk.any")));
  const of = {
    type: () => make("select", { name: "type" }, ...options(types)),
    provider: () => make("select", { name: "provider" }, ...options(providers)),
    from: () => make("input", { name: "from", type: "datetime-local", step: "1" }),
    to: () => make("input", { name: "to", type: "datetime-local", step: "1" }),
  };
  const field = (name) => make("label", {}, make("span", {}, tell(`bulk.${name}`)),
    (of[name] ?? (() => make("input", { name, autocomplete: "off", spellcheck: "false", maxlength: "200" })))());
  const actions = ["retry", "cancel", "release"].map((name) => make("option", { value: name }, tell(name)));
  return [make("label", {}, make("span", {}, tell("action")), make("select", { name: "action" }, ...actions)), ...CONDITIONS.map(field)];
}

/** Before anything is done: how many, which credits, and some of them. */
export function preview(seen, acts) {
  const rows = seen.sample.map((each) => [taskLink(each.task_id, acts.task), userLink(each.user_openid, acts.user), each.type, status(each.status),
    clock(each.finished_at ?? each.created_at), each.error ? excerpt(`${each.error.code}: ${errorWords(each.error.code, each.error.message)}`) : "–"]);
  return [
    make("p", { class: "why" }, tell(`bulk.would.${seen.action}`, { n: seen.count, credits: seen.credits })),
    make("p", { class: "hint" }, told(seen.filter)),
    ...(rows.length ? table(tell("bulk.sample"), [[tell("task")], [tell("user")], [tell("type")], [tell("status")], [tell("at")], [tell("error")]], rows) : []),
  ];
}

/** A filter as one line. */
const told = (filter) => Object.entries(filter).map(([name, value]) =>
  `${tell(`bulk.${name}`)}: ${name === "from" || name === "to" ? clock(value) : name === "status" ? tell(`status.${value}`) : value}`).join(" · ");

const because = (reason) => {
  const words = tell(`refusal.${reason}`);
  return words.startsWith("refusal.") ? reason : words;
};

/** The newest actions, each with its progress. */
export function list(items, acts) {
  const rows = items.map((each) => {
    const came = each.done + each.refused + each.passed;
    const bar = make("progress", { max: Math.max(1, each.matched), value: Math.min(each.matched, came), "aria-label": `${came} / ${each.matched}` });
    const reasons = each.reasons.map(({ reason, count, examples }) => `${count} × ${because(reason)}: ${examples.join(" ")}`);
    const hints = [...each.failure ? [tell("bulk.failure", { reason: each.failure })] : [], ...reasons];
    return [mono(each.id.slice(-6)), tell(each.action), told(each.filter), make("span", {}, state(tell(`bulk.${each.state}`), each.state === "running" ? "wait" : each.state === "done" ? "good" : "bad"), " ", bar),
      `${each.done} / ${each.matched}`, [String(each.refused), ...hints.map((hint) => make("p", { class: "hint" }, hint))], String(each.credits), each.operator, clock(each.created_at),
      each.state === "running" ? button("bulk_stop", each.id, () => acts.bulk_stop(each.id)) : each.state === "stopped" ? button("bulk_resume", each.id, () => acts.bulk_resume(each.id)) : ""];
  });
  return rows.length ? table(tell("bulk.list"), [["id"], [tell("action")], [tell("bulk.filter")], [tell("state")], [tell("bulk.acted"), 1], [tell("bulk.refused")], [tell("bulk.credits"), 1], [tell("who.did")], [tell("at")], [""]], rows) : [];
}
