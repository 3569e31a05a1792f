import type { Database, DarkroomError, State, Work, Works, WorksQuery } from "./index.js";

/** What a page shows of a query. It is replaced, never changed; a work that is as before stays the same object. */
export interface WorksList {
  readonly works: readonly Work[];
  /** How the server is reached. */
  readonly state: State;
  /** Why it is not, or why the watch has ended; null once it is reached. */
  readonly error: DarkroomError | null;
  /** Until the first list of this query has come. */
  readonly isLoading: boolean;
}

/** Which works: `(works) => works.where({ status: "completed" }).limit(20)`. */
export type AskForWorks = (works: Works) => WorksQuery<any>;

export const OPENING: WorksList;

export function queryOf(db: Database, ask?: AskForWorks): WorksQuery<any>;

/** Tells the list whenever it has changed. Gives a function that ends this. */
export function watchWorks(query: WorksQuery<any>, tell: (list: WorksList) => void): () => void;
