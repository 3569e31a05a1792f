/** One user: from what is known of them to elements. */

import { button, excerpt, forAdmins, make, status, table, taskLink } from "./ops-elements.js";
import { clock, tell } from "./ops-words.js";
import { errorWords, stageWords } from "./words.js";

export function user(seen, acts) {
  const who = seen.user, of = seen.block;
  const facts = [["user.since", clock(seen.since)], ["user.balance", seen.balance], ["user.spent", seen.spent_of_day],
    ...(seen.tokens_from ? [["user.tokens", clock(new Date(seen.tokens_from * 1000).toISOString())]] : []),
    ...seen.limits.map((each) => [`limit.${each.name}`, `${each.used} / ${each.most || "∞"}`])];
  return [
    make("p", { class: `trouble ${of ? "bad" : "well"}` }, of ? tell("user.blocked", { since: clock(of.since), reason: of.reason }) : tell("user.open")),
    make("p", { class: "acts" },
      ...[of ? "unblock" : "block", "grant", "revoke"].map((what) => forAdmins(button(what, who, () => acts[what](who)))),
      seen.open.length ? button("user.cancel", who, () => acts.cancelAllOf(who)) : null),
    make("dl", { class: "facts" }, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, tell(name)), make("dd", {}, String(value))))),
    ...part("user.open.tasks", [[tell("task")], [tell("type")], [tell("status")], [tell("stage")], [tell("progress"), 1], [tell("created")]],
      seen.open.map((each) => [taskLink(each.task_id, acts.task), each.type, status(each.status), stageWords(each.stage), String(each.progress), clock(each.created_at)])),
    ...part("user.refusals", [[tell("what")], [tell("reason.of")], [tell("count"), 1], [tell("since")], [tell("last")], [tell("error")]],
      seen.refusals.map((each) => [tell(`user.${each.what}`), each.what === "requests" ? tell(`notice.${each.reason}`) : each.reason, String(each.times), clock(each.first_at), clock(each.last_at), each.message || "–"])),
    ...part("user.ended", [[tell("task")], [tell("type")], [tell("status")], [tell("at")], [tell("error")]],
      seen.ended.map((each) => [taskLink(each.task_id, acts.task), each.type, status(each.status), clock(each.finished_at), each.error ? excerpt(`${each.error.code}: ${errorWords(each.error.code, each.error.message)}`) : "–"])),
    ...part("user.ledger", [[tell("at")], [tell("user.amount"), 1], [tell("what")], [tell("task")]],
      seen.entries.map((each) => [clock(each.at), each.amount > 0 ? `+${each.amount}` : String(each.amount), tell(`entry.${each.kind}`), each.task_id ? taskLink(each.task_id, acts.task) : "–"])),
  ];
}

/** A heading within the dialog, and its table. */
const part = (name, columns, rows) => [make("h3", {}, tell(name)), ...table("", columns, rows).slice(1)];
