/**
 * A watch that is closed inside one of its handlers, after which nothing keeps Node running:
 * `node closing.mjs URL TOKEN "list" | "change" | "live" | "polling" | "error"`.
 */

import { database } from "darkroom-client";

const [, , baseUrl, token, when] = process.argv;
const db = database({ baseUrl, token, timing: when === "polling" ? { firstBytesMs: 300 } : when === "error" ? { connectingMs: 500 } : {} });
const closeIf = (isSo) => {
  if (!isSo || closeIf.isDone) return;
  closeIf.isDone = true;
  watcher.close();
  console.log("closed");
  if (when === "polling") openAgain();
};

/** The next watch asks for what has come since. */
async function openAgain() {
  await db.submit({ type: "poster", params: { prompt: "a fair" } });
  const next = db.collection("works").watch({
    onChange({ docs }) {
      console.log(`then ${docs.length}`);
      next.close();
    },
  });
}

const watcher = db.collection("works").watch({
  onChange: ({ type, docs }) => closeIf(when === "list" || (when === "change" && type !== "init" && docs[0].images.length)),
  onState: (state) => closeIf(state === when),
  onError: () => closeIf(when === "error"),
});
if (when === "change") await db.submit({ type: "poster", params: { prompt: "a fair" } });
