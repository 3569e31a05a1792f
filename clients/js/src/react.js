"use client";

/** Works in React: `const { works, state, error, isLoading } = useWorks(db)`. */

import { useMemo, useSyncExternalStore } from "react";
import { OPENING, queryOf, watchWorks } from "./works_list.js";

/** The works of a query as they are now.  deps: what `ask` depends on, as `useMemo` takes it. */
function useWorks(db, ask, deps) {
  if (ask && !Array.isArray(deps)) {
    throw new TypeError("useWorks needs what its query depends on, as useMemo does: useWorks(db, ask, [scene]).");
  }
  const store = useMemo(() => storeOf(queryOf(db, ask)), [db].concat(deps || []));
  return useSyncExternalStore(store.subscribe, store.look, () => OPENING);
}

/** Watches while a component is shown.  StrictMode subscribes, leaves and subscribes again. */
function storeOf(query) {
  let list = OPENING;
  return {
    look: () => list,
    subscribe(changed) {
      const end = watchWorks(query, (told) => {
        list = told;
        changed();
      });
      return () => {
        end();
        list = OPENING;
      };
    },
  };
}

export { useWorks };
