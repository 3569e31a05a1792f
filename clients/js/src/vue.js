/** Works in Vue: `const { works, state, error, isLoading } = useWorks(db)`. */

import { computed, shallowRef, unref, watchPostEffect } from "vue";
import { OPENING, queryOf, watchWorks } from "./works_list.js";

/** The works of a query as they are now.  Refs that `ask` reads make the query anew when they change. */
function useWorks(db, ask) {
  const query = computed(() => queryOf(unref(db), ask));
  const told = shallowRef({ query: null, list: OPENING });
  watchPostEffect((onCleanup) => {  // after the page is drawn, and so never on a server
    const watched = query.value;
    onCleanup(watchWorks(watched, (list) => { told.value = { query: watched, list }; }));
  });
  const list = computed(() => (told.value.query === query.value ? told.value.list : OPENING));
  return {
    works: computed(() => list.value.works),
    state: computed(() => list.value.state),
    error: computed(() => list.value.error),
    isLoading: computed(() => list.value.isLoading),
  };
}

export { useWorks };
