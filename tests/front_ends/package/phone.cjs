/** A phone without a network, where `wx` is all there is: `node phone.cjs MODULE`. */

for (const name of ["fetch", "TextDecoder", "AbortController", "atob", "BroadcastChannel"]) delete globalThis[name];
const asked = [];
globalThis.wx = {
  request(request) {
    asked.push(request.url);
    request.fail({ errMsg: "request:fail" });
  },
};

const { database } = require(process.argv[2]);
const db = database({ baseUrl: "https://pictures.example.com", token: "t", timing: { patienceMs: 0 } });
db.credits().catch((error) => console.log(asked.join(), error.kind));
