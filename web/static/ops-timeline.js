/** A task's history as the operators' page shows it: its steps, and each attempt to tell its webhook, in order. */

import { make } from "./ops-elements.js";
import { clock, span, tell } from "./ops-words.js";
import { errorWords } from "./words.js";

/** events: the task's steps; deliveries: its webhooks, each with its `tries`. */
export function timeline(events, deliveries) {
  let before = null;
  const happened = [...events, ...deliveries.flatMap(({ tries }) => tries.map(triedToTell))].sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
  return make("ol", { class: "timeline" }, ...happened.map((each) => {
    const since = before === null ? "" : `+${span((Date.parse(each.at) - before) / 1000)}`;
    before = Date.parse(each.at);
    const details = each.details ?? detailsOf(each);
    return make("li", { "data-event": each.event }, make("time", { title: each.at }, clock(each.at)), make("i", {}, since),
      make("span", {}, make("b", {}, tell(`event.${each.event}`)), details ? ` · ${details}` : ""));
  }));
}

function detailsOf(each) {
  return [
    each.step ?? "", each.attempt ? tell("detail.attempt", each) : "", each.worker ? tell("detail.worker", { worker: each.worker.slice(-6) }) : "",
    each.run_after ? tell("detail.due", { time: clock(each.run_after) }) : "",
    each.credits ? tell("detail.credits", { n: each.credits > 0 ? `+${each.credits}` : each.credits }) : "", each.error ? `${each.error.code}: ${errorWords(each.error.code, each.error.message)}` : "", each.error?.detail ?? "",
  ].filter(Boolean).join(", ");
}

/** An attempt to tell a webhook, as a step. */
function triedToTell(tried) {
  const event = tried.ended_at === null ? "webhook_sent" : tried.error === null ? "webhook_delivered" : "webhook_failed";
  const became = tried.error ?? (tried.status ? tell("detail.answer", tried) : "");
  const next = tried.next_at ? ` ${tell("detail.next", { time: clock(tried.next_at) })}` : "";
  return { at: tried.at, event, details: [tell("detail.try", tried), became].filter(Boolean).join(": ") + next };
}
