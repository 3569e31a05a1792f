// A list of works that is always up to date.  Served beside `darkroom.js`, from the same address as the API or from one
// in DARKROOM_ALLOWED_ORIGINS.
import { database } from "./darkroom.js";

const { baseUrl, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1))); // yours: from your log-in
const db = database({ baseUrl, token });
const status = document.querySelector("[role=status]");
const shown = new Map(); // {work id: its line}
const WORDS = {
  pending: "waiting", processing: "being made", ai_processing: "with the AI service",
  completed: "done", failed: "failed, credits given back", cancelled: "cancelled",
};

db.collection("works").limit(20).watch({
  onChange({ docs }) {
    document.querySelector("ul").replaceChildren(...docs.map(line));
  },
  onError(error) {
    status.textContent = error.message;
  },
  onState(state) {
    status.textContent = state;
  },
});

/** One work as a line, the same element each time, so that a bar moves instead of being drawn anew. */
function line(work) {
  const item = shown.get(work._id) ?? document.createElement("li");
  shown.set(work._id, item);
  const open = ["pending", "processing", "ai_processing"].includes(work.status);
  const bar = Object.assign(document.createElement("progress"), { max: 100, value: work.progress });
  bar.setAttribute("aria-label", `${work.type}, ${WORDS[work.status]}`);
  const pictures = work.images.map(({ url }) => Object.assign(new Image(), { src: url, alt: "The finished picture" }));
  const more = work.error ? ` (${work.error.message})` : open ? ` ${work.progress} %` : "";
  item.replaceChildren(`${work.type}: ${WORDS[work.status]}${more}`, ...(open ? [bar] : pictures));
  item.dataset.status = work.status;
  return item;
}

document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const image = await db.upload(event.target.querySelector("input").files[0]);
    await db.submit({ type: "photography", params: { images: [image.id] } });
  } catch (error) {
    status.textContent = error.message;
  }
});
