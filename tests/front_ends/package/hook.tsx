/** React: a list that stays up to date, of one type at a time, and a button that orders. */

import { memo, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

import { database, DarkroomError, type Database, type Work } from "darkroom-client";
import { useWorks } from "darkroom-client/react";

const drawn: Record<string, number> = {};

const Print = memo(function Print({ work }: { work: Work }) {
  drawn[work._id] = (drawn[work._id] ?? 0) + 1;
  return <li id={work._id}>{work.status} {work.progress} %{work.images.map(({ url }) => <img key={url} src={url} alt="" />)}</li>;
});

function Prints({ db, type }: { db: Database; type: string }) {
  const { works, state, error, isLoading } = useWorks(db, (all) => all.where({ type }).limit(20), [type]);
  return <>
    <p id="state">{isLoading ? "loading" : state}</p>
    <p id="error">{error?.message}</p>
    <ul>{works.map((work) => <Print key={work._id} work={work} />)}</ul>
  </>;
}

function Count({ db }: { db: Database }) {
  return <p id="count">{useWorks(db).works.length}</p>;
}

function App({ db }: { db: Database }) {
  const [type, setType] = useState("poster"), [isShown, setIsShown] = useState(true), [told, setTold] = useState("");
  const order = (prompt: string) => db.submit({ type, params: { prompt } })
    .then(({ work_id }) => setTold(work_id), (error: DarkroomError) => setTold(`${error.status} ${error.message}`));
  return <>
    <button id="order" onClick={() => void order("wait")}>Order</button>
    <button id="wrong" onClick={() => void order("x".repeat(4001))}>Wrong</button>
    <button id="type" onClick={() => setType(type === "poster" ? "flyer" : "poster")}>{type}</button>
    <button id="hide" onClick={() => setIsShown(!isShown)}>Hide</button>
    <p id="told">{told}</p>
    {isShown && <Prints db={db} type={type} />}
    {isShown && <Count db={db} />}
  </>;
}

const { baseUrl, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const db = database({ baseUrl, token, timing: { longestPauseMs: 500 } });
Object.assign(globalThis, { db, drawn });
createRoot(document.querySelector("main")!).render(<StrictMode><App db={db} /></StrictMode>);
