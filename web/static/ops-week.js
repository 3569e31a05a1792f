/** The last week as plain SVG, with marks of deploys; and what was given up. */

import { make, mono, table, taskLink, userLink } from "./ops-elements.js";
import { clock, span, tell } from "./ops-words.js";
import { errorWords } from "./words.js";

const SVG = "http://www.w3.org/2000/svg", WIDTH = 600, HEIGHT = 80;
const CHARTS = [
  ["pending", (point) => point.pending, String], ["running", (point) => point.running, String],
  ["wait", (point) => point.wait_seconds ?? 0, span], ["oldest", (point) => point.oldest_seconds, span],
  ["completed", (point) => point.completed, String], ["failed", (point) => point.failed, String, "bad"],
  ["credits", (point) => point.credits, String],
];

function draw(name, properties, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(properties)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Where a moment stands in the picture. */
const across = (at, from, to) => ((Date.parse(at) - from) / Math.max(1, to - from)) * WIDTH;

export function week({ points, deploys, minutes }) {
  if (points.length < 2) return [make("p", { class: "hint" }, tell("week.none"))];
  const from = Date.parse(points[0].at), to = Date.parse(points.at(-1).at);
  const units = [...new Set(points.flatMap((point) => Object.keys(point.costs)))];
  const all = [...CHARTS, ...units.map((unit) => [`costs.${unit}`, (point) => point.costs[unit] ?? 0, (sum) => `${Number(sum.toPrecision(3))} ${unit}`])];
  return all.map(([name, of, said, kind]) => {
    const values = points.map(of), top = Math.max(...values), low = Math.min(0, ...values); // refunds of old tasks may exceed what is taken
    let path = "", before = null;
    points.forEach((point, n) => {
      const gap = before === null || Date.parse(point.at) - before > 1.5 * minutes * 60_000; // while nothing swept, nothing is known
      before = Date.parse(point.at);
      path += `${gap ? "M" : "L"}${across(point.at, from, to).toFixed(1)},${(HEIGHT - ((values[n] - low) / (top - low || 1)) * (HEIGHT - 6)).toFixed(1)}`;
    });
    const marks = deploys.map((deploy) => {
      const x = across(deploy.at, from, to).toFixed(1);
      return draw("line", { x1: x, x2: x, y1: 0, y2: HEIGHT, class: "deploy" });
    });
    const title = name.startsWith("costs.") ? tell("week.costs", { unit: name.slice(6) }) : tell(`week.${name}`);
    const about = `${title}: ${tell("week.top", { top: said(top) })}`;
    return make("figure", { class: "chart wide" },
      make("figcaption", {}, make("span", {}, title), make("span", {}, tell("week.top", { top: said(top) }))),
      draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": about }, ...marks, draw("path", { d: path, class: kind ?? "" })),
      make("p", { class: "span" }, make("span", {}, clock(points[0].at)), make("span", {}, clock(points.at(-1).at))));
  });
}

/** The deploys as a list, since a line in a picture tells no screen reader anything. */
export function deploys({ deploys: made }) {
  if (!made.length) return [];
  return [make("p", { class: "hint" }, tell("week.deploys", { list: made.map((each) => `${clock(each.at)} ${each.program}`).join(" · ") }))];
}

/** What was given up: failed tasks by reason, refused messages, webhooks. */
export function dead(seen, acts) {
  return [
    ...table(tell("dead.tasks", { days: seen.days }), [[tell("type")], [tell("code")], [tell("count"), 1], [tell("error")], [tell("last")], [tell("task")]],
      seen.tasks.map((each) => [each.type, mono(each.code), String(each.count), errorWords(each.code, each.message), clock(each.last_at), each.last_task ? taskLink(each.last_task, acts.task) : "–"])),
    ...table(tell("dead.orders"), [[tell("at")], [tell("user")], [tell("type")], [tell("reason.of")]],
      seen.orders.map((each) => [clock(each.at), each.user_openid ? userLink(each.user_openid, acts.user) : "–", each.type, each.reason])),
    ...table(tell("dead.webhooks"), [[tell("task")], [tell("user")], [tell("address")], [tell("attempts"), 1], [tell("last.error")], [tell("at")]],
      seen.webhooks.map((each) => [taskLink(each.task_id, acts.task), userLink(each.user_openid, acts.user), each.url, String(each.attempts), each.last_error, clock(each.ended_at)])),
  ];
}

/** The last log lines of a task's attempts that did not succeed. */
export function logs(kept) {
  return kept.flatMap((each) => [
    make("h3", {}, tell("log.of", { attempt: each.attempt, lease: each.lease, worker: each.worker?.slice(-6) ?? "–" })),
    make("pre", { class: "log", tabindex: "0" }, each.lines.join("\n")),
  ]);
}
