/** What a page shows of a query, for React and Vue: a value that is replaced at each news of a watch. */

/** Before anything is known. */
const OPENING = Object.freeze({ works: Object.freeze([]), state: "connecting", error: null, isLoading: true });

const queryOf = (db, ask) => {
  const works = db.collection("works");
  return ask ? ask(works) : works;
};

/** Calls `tell(list)` at each news, never before it returns.  Gives a function that ends this. */
function watchWorks(query, tell) {
  let list = OPENING, known = new Map();
  const change = (more) => tell(list = Object.assign({}, list, more));
  const watcher = query.watch({
    onChange({ docs }) {
      known = new Map(docs.map((doc) => [doc._id, sameOrNew(known.get(doc._id), doc)]));
      change({ works: Array.from(known.values(), (each) => each.doc), error: null, isLoading: false });
    },
    onState(state) {
      if (state !== "connecting") change(state === "lost" ? { state } : { state, error: null });
      else if (list !== OPENING) {  // another user's token: nothing that is shown holds
        known = new Map();
        change(OPENING);
      }
    },
    onError: (error) => change({ error }),
  });
  return () => watcher.close();
}

/** A work that has not changed stays the same object, so that what shows it need not be drawn again. */
function sameOrNew(before, doc) {
  const text = JSON.stringify(doc);
  return before && before.text === text ? before : { doc, text };
}

export { OPENING, queryOf, watchWorks };
