import type { Database } from "./index.js";
import type { AskForWorks, WorksList } from "./works_list.js";

export type { AskForWorks, WorksList };

/** All works of the user, kept up to date while the component is shown. */
export function useWorks(db: Database): WorksList;

/**
 * The works of a query, kept up to date while the component is shown.
 * deps: what `ask` uses of the component, as `useMemo` takes it; when one of them changes, the query is made anew.
 */
export function useWorks(db: Database, ask: AskForWorks, deps: readonly unknown[]): WorksList;
