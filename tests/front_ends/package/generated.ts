/** A program whose types openapi-typescript made: `node generated.ts URL TOKEN SERVICE_TOKEN USER PICTURE`. */

import { readFile } from "node:fs/promises";

import createClient from "openapi-fetch";

import type { components, paths } from "./api.js";

type Task = components["schemas"]["Task"];
type Order = components["schemas"]["Order"];

const [, , baseUrl = "", token = "", serviceToken = "", user = "", picture = ""] = process.argv;
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const told: Record<string, unknown> = {};

const uploaded = await client.POST("/v1/images", {
  body: { image: new Blob([await readFile(picture)]) as unknown as string },  // "binary" is a text to the generator
  bodySerializer(body) {
    const form = new FormData();
    form.append("image", (body as { image: unknown }).image as Blob);
    return form;
  },
});
if (!uploaded.data) throw new Error(uploaded.error.detail);
told["width"] = uploaded.data.width;

const order: Order = { type: "poster", params: { images: [uploaded.data.id], prompt: "a fair" } };
const estimated = await client.POST("/v1/tasks", { body: order, params: { query: { estimate: true } } });
if (estimated.data && "credits" in estimated.data) told["credits"] = estimated.data.credits;

const ordered = await client.POST("/v1/tasks", { body: order, params: { header: { "Idempotency-Key": "order-1" } } });
if (!ordered.data || !("task_id" in ordered.data)) throw new Error(ordered.error?.detail);
const { task_id } = ordered.data;

async function finished(): Promise<Task> {
  const path = { task_id }, query = { wait: 25 };
  for (let since: string | undefined; ;) {
    const changes = await client.GET("/v1/works/changes", { params: { query: since ? { ...query, since } : query } });
    if (!changes.data) throw new Error(changes.error.detail);
    since = changes.data.next;
    const { data, error } = await client.GET("/v1/tasks/{task_id}", { params: { path } });
    if (!data) throw new Error(error.detail);
    if (["completed", "failed", "cancelled"].includes(data.status)) return data;
  }
}

const task = await finished();
told["status"] = task.status;
told["urls"] = task.result?.images.map(({ url }) => url);

const refused = await client.POST("/v1/tasks", { body: { type: "poster", params: { prompt: "x".repeat(4001) } } });
if (refused.error) told["refused"] = [refused.response.status, refused.error.detail, refused.error.errors?.[0]?.pointer];

const service = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${serviceToken}` } });
const header = { "X-User": user };
const { data: theirs } = await service.GET("/v1/tasks/{task_id}", { params: { path: { task_id }, header } });
told["theirs"] = theirs?.task_id === task_id;

// @ts-expect-error: there is no such type
const unknownType: Order = { type: "statue", params: {} };
// @ts-expect-error: a count is a number
const wrongCount: Order = { type: "poster", params: { count: "2" } };
// @ts-expect-error: photography needs its picture
const noPicture: Order = { type: "photography", params: {} };
// @ts-expect-error: there is no such member of a task
void task.state;
void [unknownType, wrongCount, noPicture];

console.log(JSON.stringify(told));
