/** Notifications of the browser when a work has ended while the page is hidden.  Asked for on a press of the bell alone. */

import { say, typeName } from "./words.js";

const KEY = "darkroom.notify";
const WORKER = "/static/notify-worker.js";  // phones show notifications of service workers alone
const bell = document.getElementById("notify");
const canNotify = "Notification" in globalThis && Boolean(navigator.serviceWorker) && isSecureContext;
const isOn = () => canNotify && Notification.permission === "granted" && localStorage.getItem(KEY) === "on";

/** `announce(text)` tells what a press has done. */
export function offerNotifications(announce) {
  bell.hidden = !canNotify;
  bell.addEventListener("click", () => press().then((name) => {
    showBell();
    announce(say(name));
  }));
  showBell();
}

export function showBell() {
  const name = say(isOn() ? "notify.off" : "notify.on");
  bell.setAttribute("aria-pressed", String(isOn()));
  bell.setAttribute("aria-label", name);
  bell.title = name;
}

async function press() {
  if (isOn()) {
    localStorage.removeItem(KEY);
    return "notify.is.off";
  }
  if (await Notification.requestPermission() !== "granted") return "notify.denied";
  await navigator.serviceWorker.register(WORKER);
  localStorage.setItem(KEY, "on");
  return "notify.is.on";
}

/** Tell of a work that has ended, where nobody looks at the page. */
export async function tellOf(doc) {
  if (!isOn() || document.visibilityState === "visible" || doc.status === "cancelled") return;
  const registration = await navigator.serviceWorker.register(WORKER);
  await isActive(registration);
  const title = say(doc.status === "completed" ? "notify.done" : "notify.failed", { what: typeName(doc.type) });
  const small = doc.images[0]?.thumbnail?.url;
  await registration.showNotification(title, { tag: doc._id, icon: "/static/icon.svg", ...(small ? { image: small } : {}) });
}

function isActive({ active, installing, waiting }) {
  const worker = installing ?? waiting;
  if (active || !worker) return Promise.resolve();
  return new Promise((resolve) => worker.addEventListener("statechange", () => worker.state === "activated" && resolve()));
}
