/** Many clients of one user in one process: `node reconnecting_clients.mjs MODULE URL TOKEN COUNT`.  A JSON line for each state, and each request. */

const [module, baseUrl, token, count] = process.argv.slice(2);
const { fetch } = globalThis, say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
globalThis.fetch = (...asked) => {
  say({ asked: String(asked[0]) });
  return fetch(...asked);
};
const { database } = await import(module);
for (let n = 0; n < Number(count); n++) {
  database({ baseUrl, token, share: false }).collection("works").watch({
    onChange() {},
    onState: (state) => say({ n, state }),
  });
}
