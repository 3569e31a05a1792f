/** A Node program: it orders by files on its disk, and ends when its order has ended. */

import { openAsBlob } from "node:fs";

import { database, DarkroomError, type Work } from "darkroom-client";

const [, , baseUrl, token, path = ""] = process.argv;
const db = database({ baseUrl, token });

const finished = (workId: string) => new Promise<Work>((resolve, reject) => {
  const watcher = db.collection("works").doc(workId).watch({
    onChange({ docs: [work] }) {
      if (!work || !["completed", "failed", "cancelled"].includes(work.status)) return;
      void watcher.close();
      resolve(work);
    },
    onError: reject,
  });
});

try {
  const images = path ? [(await db.upload(await openAsBlob(path))).id] : [];
  const { work_id } = await db.submit({ type: "poster", params: { images, prompt: "a fair" } });
  const { status, images: pictures } = await finished(work_id);
  console.log(JSON.stringify({ status, urls: pictures.map(({ url }) => url), left: (await db.credits()).balance }));
} catch (error) {
  if (!(error instanceof DarkroomError)) throw error;
  console.log(JSON.stringify({ refused: error.status, kind: error.kind, message: error.message, errors: error.errors }));
}
