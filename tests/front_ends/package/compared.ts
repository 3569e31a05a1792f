/** What the code does can be used as declared, and it has no function that is not declared. */

import * as real from "./darkroom.js";
import type * as declared from "darkroom-client";

type Names<T> = keyof T & string;
type Same<One, Other> = [Exclude<One, Other>, Exclude<Other, One>] extends [never, never] ? true : never;
export const database: (given?: declared.Settings) => { [Name in keyof declared.Database]: unknown } =
  real.database;
export const members: Same<Names<ReturnType<typeof real.database>>, Names<declared.Database>> = true;
type Given = NonNullable<Parameters<typeof real.database>[0]>;
export const settings: Same<Names<Given>, Names<declared.Settings>> = true;
export const conditions: Same<Names<typeof real.command>, Names<declared.Command> | Refused> = true;
export const error: declared.DarkroomError = new real.DarkroomError(1, "x", { kind: "k" });
type Made = ReturnType<typeof real.database>;
export const submitted: Parameters<Made["submit"]>[0] = null as unknown as declared.Order;
export const estimated: Awaited<ReturnType<declared.Database["estimate"]>> =
  null as unknown as Awaited<ReturnType<Made["estimate"]>>;
export const credits: declared.Credits = null as unknown as Awaited<ReturnType<Made["credits"]>>;
const query = real.database().collection("works");
type Query = Names<declared.Works> | "add" | "update" | "remove" | "aggregate" | `_${string}`;
export const queries: Exclude<Names<typeof query>, Query> extends never ? true : never = true;
export const back: Exclude<Names<declared.Works>, Names<typeof query>> extends never ? true : never = true;
type Refused = "geoNear" | "geoWithin" | "geoIntersects" | "expr" | "aggregate" | "project" | "set" | "remove"
  | "inc" | "mul" | "min" | "max" | "rename" | "bit" | "push" | "pop" | "shift" | "unshift" | "addToSet" | "pull"
  | "pullAll";
