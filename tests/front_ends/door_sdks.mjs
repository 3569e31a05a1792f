// Does with the official SDKs what each line of stdin says, and writes a line with what came of it.
//   {sdk, call, url, key, input, more}  ->  {result} or {error: {name, message, status, body}}
import { createInterface } from "node:readline";
import OpenAI, { toFile } from "openai";
import Replicate from "replicate";
import { createFalClient } from "@fal-ai/client";
import { generateImage } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { createFal } from "@ai-sdk/fal";
import { createReplicate } from "@ai-sdk/replicate";

const blob = (base64) => new Blob([Buffer.from(base64, "base64")], { type: "image/jpeg" });

const openai = ({ url, key }) => new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: key });
const replicate = ({ url, key }) => new Replicate({ baseUrl: `${url}/replicate/v1`, auth: key, useFileOutput: false });
const fal = ({ url, key }) =>
  createFalClient({ credentials: key, proxyUrl: { url: `${url}/fal/proxy`, when: "always" } });

async function image(model, { input, more }) {
  const { images } = await generateImage({ model, prompt: input.prompt, n: input.n ?? 1, maxRetries: 1, ...more });
  return images.map((each) => each.base64.length);
}

const calls = {
  openai: {
    generate: async (given) => (await openai(given).images.generate(given.input)).data,
    edit: async (given) => {
      const photos = given.more.photos.map((photo) => toFile(blob(photo), "a.jpg", { type: "image/jpeg" }));
      return (await openai(given).images.edit({ ...given.input, image: await Promise.all(photos) })).data;
    },
    stream: async (given) => {
      const seen = [];
      for await (const event of await openai(given).images.generate({ ...given.input, stream: true })) seen.push(event.type);
      return seen;
    },
    models: async (given) => (await openai(given).models.list()).data.map((each) => each.id),
  },
  replicate: {
    run: async (given) => replicate(given).run(given.more.model, { input: given.input }),
    upload: async (given) => {
      const input = { ...given.input, image: blob(given.more.photo) };
      return replicate(given).run(given.more.model, { input });
    },
    cancel: async (given) => {
      const client = replicate(given);
      const made = await client.predictions.create({ model: given.more.model, input: given.input });
      return [made.status, (await client.predictions.cancel(made.id)).status];
    },
    secret: async (given) => (await replicate(given).webhooks.default.secret.get()).key,
  },
  fal: {
    subscribe: async (given) => {
      const seen = [];
      const onQueueUpdate = (update) => seen.push(update.status);
      const { data } = await fal(given).subscribe(given.more.model, { input: given.input, logs: true, onQueueUpdate });
      return { ...data, seen };
    },
    streamed: async (given) => {
      const options = { input: given.input, mode: "streaming", onQueueUpdate: () => {} };
      return (await fal(given).subscribe(given.more.model, options)).data;
    },
    run: async (given) => (await fal(given).run(given.more.model, { input: given.input })).data,
    stream: async (given) => {
      const stream = await fal(given).stream(given.more.model, { input: given.input });
      const seen = [];
      for await (const event of stream) seen.push(event);
      return { seen, done: await stream.done() };
    },
    upload: async (given) => {
      const input = { ...given.input, image_url: blob(given.more.photo) };
      return (await fal(given).run(given.more.model, { input })).data;
    },
    cancel: async (given) => {
      const client = fal(given);
      const { request_id: requestId } = await client.queue.submit(given.more.model, { input: given.input });
      await client.queue.cancel(given.more.model, { requestId });
      return (await client.queue.status(given.more.model, { requestId })).status;
    },
  },
  ai: {
    openai: (given) =>
      image(createOpenAI({ baseURL: `${given.url}/openai/v1`, apiKey: given.key }).image(given.more.model), plain(given)),
    fal: (given) =>
      image(createFal({ baseURL: `${given.url}/fal/run`, apiKey: given.key }).image(given.more.model), plain(given)),
    replicate: (given) =>
      image(
        createReplicate({ baseURL: `${given.url}/replicate/v1`, apiToken: given.key }).image(given.more.model),
        plain(given),
      ),
  },
};

const plain = (given) => ({ input: given.input, more: {} });

for await (const line of createInterface({ input: process.stdin })) {
  const given = JSON.parse(line);
  const answer = (told) => process.stdout.write(`${JSON.stringify({ id: given.id, ...told })}\n`);
  calls[given.sdk][given.call](given).then(
    (result) => answer({ result: result ?? null }),
    (error) => {
      const last = error.lastError ?? error;
      const status = last.status ?? last.statusCode ?? last.response?.status ?? null;
      answer({ error: { name: last.name, message: `${last.message}`, status, body: last.body ?? null } });
    },
  );
}
