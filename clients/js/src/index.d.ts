/** A text that a program should know, or another: newer servers may have more. */
type OrOther<Known extends string> = Known | (string & {});

// ---------------------------------------------------------------- what the server tells

export type Status = "pending" | "processing" | "ai_processing" | "completed" | "failed" | "cancelled";

export type ErrorCode =
  | "bad_params" | "unknown_type" | "insufficient_credits" | "image_not_found" | "image_unusable" | "no_person_found"
  | "time_limit" | "ai_timeout" | "invalid_input" | "content_rejected" | "provider_error" | "provider_down"
  | "unknown_outcome" | "remote_lost" | "expired" | "worker_died" | "user_blocked" | "internal";

export interface Thumbnail {
  /** Whole and signed; it expires. */
  url: string;
  width: number;
  height: number;
}

export interface Picture {
  /** Whole and signed; it expires, and a watch renews it before. */
  url: string;
  width: number;
  height: number;
  /** A small WebP for lists; null where the picture has none. */
  thumbnail: Thumbnail | null;
}

/** A result that is no picture. */
export interface ResultFile {
  url: string;
  media_type: string;
  bytes: number;
  /** As it may be saved. */
  name: string;
  width?: number | null;
  height?: number | null;
  duration_seconds?: number | null;
}

export interface TaskError {
  code: OrOther<ErrorCode>;
  /** A sentence for the user. */
  message: string;
}

/** What the user sees of a task: a document of the collection "works". */
export interface Work {
  _id: string;
  task_id: string;
  user_openid: string;
  type: string;
  status: Status;
  /** A word or two on what is being done. */
  stage: string;
  /** 0 to 100; it does not fall within an attempt. */
  progress: number;
  images: Picture[];
  files?: ResultFile[] | null;
  /** JSON that the task made; null above 16 KiB, see `data_url`. */
  data?: unknown;
  data_url?: string | null;
  error: TaskError | null;
  /** UTC, RFC 3339. */
  created_at: string;
  updated_at: string;
}

export interface TaskResult {
  images: Picture[];
  files?: ResultFile[] | null;
  data?: unknown;
  data_url?: string | null;
}

/** A step of a task whose type has steps. */
export interface TaskStep {
  name: string;
  /** `resumed`: its results are those of an earlier run of the task. */
  status: OrOther<"waiting" | "running" | "done" | "resumed" | "failed" | "cancelled">;
  progress: number;
  /** Of the attempt that finished it. */
  run_seconds: number | null;
  /** What AI services have reported that it cost: {unit: amount}. */
  cost: Record<string, string>;
  /** What it has made, of a step whose files are kept. */
  images?: Picture[] | null;
}

export interface Task {
  task_id: string;
  /** Null until the task is admitted. */
  work_id: string | null;
  type: string;
  status: Status;
  stage: string;
  progress: number;
  /** 0 is next; null unless pending. */
  queue_position: number | null;
  /** Null where nothing is known yet. */
  eta_seconds: number | null;
  attempt: number;
  max_attempts: number;
  error: TaskError | null;
  result: TaskResult | null;
  /** In the answer about a single task, of a type with steps. */
  steps?: TaskStep[] | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
}

/** A task as the collection "task_queue" shows it. */
export interface TaskDocument extends Task {
  _id: string;
  processing_started_at: string | null;
  completed_at: string | null;
  failed_at: string | null;
}

export interface AcceptedTask {
  task_id: string;
  work_id: string;
  status: Status;
  queue_position: number | null;
  /** Paths on the server. */
  urls: { task: string; work: string; feed: string; cancel: string };
}

export interface Estimate {
  /** What the order would cost now. */
  credits: number;
  balance: number;
  queue_position: number | null;
  eta_seconds: number | null;
}

export interface UploadedImage {
  /** For `params.images`. */
  id: string;
  /** A path on the server. */
  url: string;
  width: number;
  height: number;
  bytes: number;
}

export interface UploadedFile {
  /** For `params.videos`, `params.audio` or `params.files`. */
  id: string;
  url: string;
  media_type: string;
  bytes: number;
  name: string;
  width?: number | null;
  height?: number | null;
}

export interface CreditEntry {
  kind: "grant" | "debit" | "refund";
  /** Signed: debits are negative. */
  amount: number;
  task_id: string | null;
  at: string;
}

export interface Credits {
  balance: number;
  /** The newest entries of the ledger. */
  entries: CreditEntry[];
}

// ---------------------------------------------------------------- what is ordered

export interface OrderParams {
  /** Ids of uploads, or https addresses; the same holds for `videos`, `audio` and `files`. */
  images?: string[];
  videos?: string[];
  audio?: string[];
  files?: string[];
  prompt?: string;
  sceneId?: string;
  /** How many pictures are made, where the type makes pictures. */
  count?: number;
  /** What the type declares; it goes to the AI service. */
  parameters?: Record<string, unknown>;
  /** One of the providers that the type allows. */
  provider?: string;
}

export interface Order {
  type: string;
  params: OrderParams;
  /** -10 to 0 for users. */
  priority?: number;
  /** Not before this time. RFC 3339. */
  run_after?: string;
  /** An address that is told when the task has ended. */
  webhook?: string;
}

// ---------------------------------------------------------------- errors

/** One thing that is wrong with the input. */
export interface Mistake {
  /** RFC 6901, into the body. */
  pointer: string;
  detail: string;
}

/** An answer that says no, or none at all. */
export class DarkroomError extends Error {
  constructor(status: number, message: string, more?: { kind?: string; errors?: Mistake[]; retryAfter?: number });
  /** The HTTP status; 0 where nobody answered. */
  status: number;
  /** A short name for programs, such as "insufficient_credits", "unreachable" or "no_token". */
  kind: string;
  /** Bad input: what is wrong where. */
  errors: Mistake[];
  /** Seconds after which it may be tried again; 0 where none were named. */
  retryAfter: number;
  /** As CloudBase names `status` and `message`. */
  errCode: number;
  errMsg: string;
}

// ---------------------------------------------------------------- queries

/** The conditions that a query may be made of, as `db.command` of CloudBase. */
export interface Command {
  and(...others: unknown[]): Condition;
  or(...others: unknown[]): Condition;
  eq(wanted: unknown): Condition;
  neq(wanted: unknown): Condition;
  gt(wanted: string | number | Date): Condition;
  gte(wanted: string | number | Date): Condition;
  lt(wanted: string | number | Date): Condition;
  lte(wanted: string | number | Date): Condition;
  in(wanted: readonly unknown[]): Condition;
  nin(wanted: readonly unknown[]): Condition;
  exists(wanted: boolean): Condition;
  mod(divisor: number, rest: number): Condition;
  all(wanted: readonly unknown[]): Condition;
  size(count: number): Condition;
  elemMatch(one: unknown): Condition;
  nor(...others: unknown[]): Condition;
  not(one: unknown): Condition;
}

/** What a field must be. Made by `command`; conditions on one field can be chained: `_.gt(10).lt(90)`. */
export interface Condition extends Command {
  test(value: unknown): boolean;
}

export const command: Command;

type Wanted<V> =
  | Condition
  | (V extends string ? V | RegExp | Date
    : V extends readonly (infer Each)[] ? V | Wanted<Each>
    : V extends object ? V | Where<V>
    : V);

/** Fields and what they must be; paths into them, such as "error.code", too. */
export type Where<T> = { [Field in keyof T]?: Wanted<T[Field]> } & { [path: `${string}.${string}`]: unknown };

/** A field, or a path into one. */
export type Field<T> = (keyof T & string) | `${keyof T & string}.${string}`;

/** A document as `get` gives it: its times are Dates. A watch gives them as texts. */
export type Got<T> = { [Name in keyof T]: Name extends `${string}_at` ? (null extends T[Name] ? Date | null : Date) : T[Name] };

export type State = "connecting" | "live" | "polling" | "lost";

export interface Change<T = Work> {
  /** The number of the change: it counts the user's changes, without a gap. */
  id: number;
  dataType: "init" | "add" | "update" | "replace" | "remove" | "limit" | "alias";
  queueType: "init" | "enqueue" | "update" | "dequeue" | "add" | "remove";
  docId: string;
  /** After the change; of what was removed, the last one. */
  doc: T;
  updatedFields?: Partial<T>;
}

export interface Snapshot<T = Work> {
  id: number;
  /** Of the first list alone. */
  type?: "init";
  /** Empty where only links were renewed. */
  docChanges: Change<T>[];
  /** The whole list. */
  docs: T[];
}

export interface Handlers<T = Work> {
  onChange: (snapshot: Snapshot<T>) => void;
  /** Called once if nobody is reached in the first seconds, and the client goes on trying; or once for what will not
   * become better, and that ends the watch. */
  onError?: (error: DarkroomError) => void;
  onState?: (state: State) => void;
}

export interface Watcher {
  close(): Promise<void>;
}

/** How a call tells what came of it, if not by its promise. */
export interface Callbacks<Result> {
  success?: (result: Result) => void;
  fail?: (error: DarkroomError) => void;
  complete?: (told: Result | DarkroomError) => void;
}

interface NoCallbacks {
  success?: undefined;
  fail?: undefined;
  complete?: undefined;
}

type Told<Result> = Result & { errMsg: string };

/** `Given` beside callbacks, or without them; with any of these there is no promise. */
interface Call<Given, Result> {
  (options: Given & NoCallbacks): Promise<Told<Result>>;
  (options: Given & Callbacks<Told<Result>>): void;
}

interface PlainCall<Result> {
  (options?: NoCallbacks): Promise<Told<Result>>;
  (options: Callbacks<Told<Result>>): void;
}

/** What is asked of a collection. Each step gives a new query. */
export interface Query<T, Gets = Got<T>> {
  where(query: Where<T> | Condition): Query<T, Gets>;
  orderBy(field: Field<T>, direction: "asc" | "desc"): Query<T, Gets>;
  /** 1 to 5,000. */
  limit(count: number): Query<T, Gets>;
  /** How many `get` leaves out, 0 to 5,000. */
  skip(count: number): Query<T, Gets>;
  /** Which fields `get` gives: `{name: true}`, or `{name: false}`. */
  field(fields: { [Name in keyof T]?: boolean }): Query<T, Partial<Gets>>;
  /** The list as it is now, the first hundred without `limit`. */
  get: PlainCall<{ data: Gets[] }>;
  /** How many there are, of 5,000 at most. */
  count: PlainCall<{ total: number }>;
}

/** A query of the collection "works", which can be watched. */
export interface WorksQuery<Gets = Got<Work>> extends Query<Work, Gets> {
  where(query: Where<Work> | Condition): WorksQuery<Gets>;
  orderBy(field: Field<Work>, direction: "asc" | "desc"): WorksQuery<Gets>;
  limit(count: number): WorksQuery<Gets>;
  skip(count: number): WorksQuery<Gets>;
  field(fields: { [Name in keyof Work]?: boolean }): WorksQuery<Partial<Gets>>;
  /** Every change of the list, as it happens, over lost connections. */
  watch(handlers: Handlers): Watcher;
}

export interface Document<T, Gets = Got<T>> {
  field(fields: { [Name in keyof T]?: boolean }): Document<T, Partial<Gets>>;
  get: PlainCall<{ data: Gets }>;
}

export interface WorkDocument extends Document<Work> {
  watch(handlers: Handlers): Watcher;
  /** Delete the work and its pictures. */
  remove: PlainCall<{ stats: { removed: number } }>;
}

export interface TaskQueueDocument extends Document<TaskDocument> {
  /** "cancelled" cancels the task; "pending" runs a failed or cancelled one again. */
  update: Call<{ data: { status: "cancelled" | "pending"; updated_at?: unknown } }, { stats: { updated: number } }>;
}

export interface Works extends WorksQuery {
  doc(id: string): WorkDocument;
}

export interface TaskQueue extends Query<TaskDocument> {
  doc(id: string): TaskQueueDocument;
  /** Makes an order. `_id` is its key: a second call with the same `_id` is the same order. */
  add: Call<{ data: Order & { _id?: string; status?: "pending"; user_openid?: string; created_at?: unknown } },
    { _id: string; work_id: string }>;
}

// ---------------------------------------------------------------- the database

export interface Settings {
  /** The server's address; empty for the page's own. */
  baseUrl?: string;
  /** The user's token, or a function that gives it and is asked for a `fresh` one, with the reason, when it is refused. */
  token?: string | ((why: { fresh: boolean; reason?: string }) => string | Promise<string>);
  /** For whom a backend acts whose token has the role `service`. Such a token never belongs into a page. */
  user?: string;
  /** Which words tell of what enters or leaves a list: both; `true`: `add` and `remove`; `false`: `enqueue` and `dequeue`. */
  compat?: boolean;
  /** `false` gives each tab a stream of its own. */
  share?: boolean;
  /** What has `request` and `uploadFile`, where it is not the mini-program's own `wx`. */
  wx?: unknown;
  /** Milliseconds, for tests. */
  timing?: Partial<Record<
    | "silenceMs" | "firstBytesMs" | "streamAgainMs" | "longestPollingMs" | "longestPauseMs" | "patienceMs"
    | "requestTimeoutMs" | "linksAtMostEveryMs" | "connectingMs", number>>;
}

/** A File or Blob, said so that mini-programs, which have neither, can read it; there it is a path. */
export type FileToSend = string | { readonly size: number; readonly type: string; arrayBuffer(): Promise<ArrayBuffer> };

/** A user's Darkroom. Each of its promises is rejected with a `DarkroomError`. */
export interface Database {
  command: Command;
  collection(name: "works"): Works;
  collection(name: "task_queue"): TaskQueue;
  /** The time by the server's clock, `offset` milliseconds later. */
  serverDate(options?: { offset?: number }): Date;
  RegExp(given: { regexp: string; options?: string }): RegExp;
  /** Works have no places: each of these throws. */
  Geo: Record<"Point" | "LineString" | "Polygon" | "MultiPoint" | "MultiLineString" | "MultiPolygon", () => never>;
  /** Order. However often it has to be sent, it is one order. `key`: your own, to go on with an order after a reload. */
  submit(order: Order, options?: { key?: string }): Promise<AcceptedTask>;
  /** What an order would cost, and when it would start. Nothing is ordered. */
  estimate(order: Order): Promise<Estimate>;
  /** Hand in a picture: a File or Blob; in a mini-program the path that `wx.chooseMedia` gave. */
  upload(file: FileToSend): Promise<UploadedImage>;
  /** Hand in a film, sound or other file. */
  uploadFile(file: FileToSend): Promise<UploadedFile>;
  cancel(taskId: string): Promise<Task>;
  /** Run a failed or cancelled task again; its credits are taken again. */
  retry(taskId: string): Promise<Task>;
  /** Delete a work and its pictures; one that is gone already is no error. */
  remove(workId: string): Promise<null>;
  /** A task with its place in the line and the time left. */
  task(taskId: string): Promise<Task>;
  /** Any other address of the API, with the token and the patience of this client: for what may be asked again. */
  call(method: string, path: string, body?: object): Promise<any>;
  credits(): Promise<Credits>;
}

export function database(settings?: Settings): Database;
