import type { ComputedRef, MaybeRef } from "vue";
import type { Database } from "./index.js";
import type { AskForWorks, WorksList } from "./works_list.js";

export type { AskForWorks, WorksList };

/**
 * The works of a query, kept up to date until the component or scope ends; without `ask` all works of the user.
 * ask: refs that it reads make the query anew when they change.
 */
export function useWorks(db: MaybeRef<Database>, ask?: AskForWorks): {
  [Name in keyof WorksList]: ComputedRef<WorksList[Name]>;
};
