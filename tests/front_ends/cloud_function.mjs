/**
 * A cloud function, or calls of CloudBase's SDKs, as a program driven by a test.
 *
 * `node cloud_function.mjs FOLDER`, where FOLDER has the function's files and `node_modules`.  It reads one JSON line for
 * each thing to do and writes one for each answer: {function, event} calls a file's `main`; {sdk, steps} a chain of calls
 * of the database, each [name, …arguments], where {"$command": [name, …arguments]} is db.command's and {"$date": ms} a
 * Date.  What is thrown is told with its code and message.
 */

import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";

const folder = path.resolve(process.argv[2]);
const require = createRequire(path.join(folder, "index.js"));
const { DARKROOM_URL, DARKROOM_SECRET_ID: secretId, DARKROOM_SECRET_KEY: secretKey, DARKROOM_TOKEN } = process.env;
const given = { env: "prod-1", serviceUrl: `${DARKROOM_URL}/tcb/admin` };
console.warn = console.error; // the SDKs warn on stdout otherwise

const openings = {
  wx: () => {
    const cloud = require("wx-server-sdk");
    cloud.init({ ...given, secretId, secretKey });
    return cloud.database();
  },
  node: () => require("@cloudbase/node-sdk").init({ ...given, secretId, secretKey }).database(),
  token: () => require("@cloudbase/node-sdk").init({ ...given, accessKey: DARKROOM_TOKEN }).database(),
};
const opened = {};

function meant(db, value) {
  if (Array.isArray(value)) return value.map((each) => meant(db, each));
  if (!value || typeof value !== "object") return value;
  if ("$date" in value) return new Date(value.$date);
  if ("$db" in value) return db[value.$db[0]](...value.$db.slice(1));
  if ("$command" in value) {
    const [name, ...rest] = value.$command;
    return db.command[name](...rest.map((each) => meant(db, each)));
  }
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, meant(db, each)]));
}

async function call({ sdk, steps }) {
  opened[sdk] ||= openings[sdk]();
  const db = opened[sdk];
  let here = db;
  for (const [name, ...rest] of steps) here = await here[name](...rest.map((each) => meant(db, each)));
  return here;
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const todo = JSON.parse(line);
  try {
    const result = todo.function ? await require(`./${todo.function}`).main(todo.event, {}) : await call(todo);
    process.stdout.write(`${JSON.stringify({ result })}\n`);
  } catch (error) {
    const { name, message, code = error.errCode } = error;
    process.stdout.write(`${JSON.stringify({ error: { name, message, code } })}\n`);
  }
}
process.exit(0);
