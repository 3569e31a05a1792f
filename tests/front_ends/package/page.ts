/** A page without a framework: a list of works that stays up to date, and a form that orders. */

import { command as _, database, DarkroomError, type AcceptedTask, type State, type Work } from "darkroom-client";

const db = database({ token: ({ fresh }) => tokenOf(fresh) });

async function tokenOf(fresh: boolean): Promise<string> {
  return String(await (await fetch(`/session/token?fresh=${fresh}`)).text());
}

const list = document.querySelector("ul")!, status = document.querySelector<HTMLElement>("[role=status]")!;
const WORDS: Record<State, string> = { connecting: "…", live: "", polling: "", lost: "Reconnecting" };

const watcher = db.collection("works")
  .where({ type: _.in(["photography", "fitting"]), status: _.neq("cancelled"), "error.code": _.exists(false) })
  .where(_.or({ progress: _.gt(10).lt(90) }, { stage: /print/i }))
  .orderBy("created_at", "desc").orderBy("error.code", "asc").limit(20)
  .watch({
    onChange({ docs, docChanges, type }) {
      if (type !== "init") console.log(docChanges.map((each) => `${each.queueType} ${each.updatedFields?.progress ?? ""}`));
      list.replaceChildren(...docs.map(item));
    },
    onState: (state) => { status.textContent = WORDS[state]; },
    onError: (error) => { status.textContent = `${error.kind} ${error.message}`; },
  });

function item(work: Work): HTMLElement {
  const element = document.createElement("li");
  const [first] = work.images;
  element.textContent = `${work.type} ${work.progress + 1} ${work.error?.code.toUpperCase() ?? work.status}`;
  if (first) element.append(Object.assign(new Image(), { src: (first.thumbnail ?? first).url }));
  return element;
}

export async function order(photo: File, film: Blob): Promise<AcceptedTask | null> {
  try {
    const { id } = await db.upload(photo), { media_type, id: filmId } = await db.uploadFile(film);
    const wanted = { type: "photography", params: { images: [id], videos: [filmId], count: 2, parameters: { media_type } } };
    const { credits, balance, eta_seconds } = await db.estimate(wanted);
    if (credits > balance || (eta_seconds ?? 0) > 600) return null;
    return await db.submit(wanted, { key: crypto.randomUUID() });
  } catch (error) {
    if (error instanceof DarkroomError && error.status === 422) console.error(error.errors.map((each) => each.pointer));
    throw error;
  }
}

export async function history(): Promise<number> {
  const { data } = await db.collection("works").field({ status: true, created_at: true }).get();
  const { total } = await db.collection("task_queue").where({ status: "failed", attempt: _.gt(1) }).count();
  const whole = await db.collection("works").get();
  return data.length + total + (data[0]?.created_at?.getTime() ?? 0) + whole.data[0]!.updated_at.getTime();
}

addEventListener("pagehide", () => void watcher.close());
