/** The client's pure parts: `node --test parts.test.mjs`, with DARKROOM_MODULE naming the client's file. */

import assert from "node:assert/strict";
import test from "node:test";

const { command: _, DarkroomError, database, EventParser, Utf8Decoder, View, Works } = await import(process.env.DARKROOM_MODULE);

const TEXTS = ["plain", "海边的照片", "𠮷野家 🖼️", "é\u0000ü", "\ud7ff\ue000\uffff\u{10ffff}"];

test("UTF-8 that is cut at any byte is read whole", () => {
  for (const text of TEXTS) {
    const bytes = new TextEncoder().encode(text);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const decoder = new Utf8Decoder();
      assert.equal(decoder.decode(bytes.subarray(0, cut)) + decoder.decode(bytes.subarray(cut)), text);
    }
  }
});

test("bytes that are no UTF-8 are read as browsers read them", () => {
  const draw = random(11);
  for (let round = 0; round < 3000; round++) {
    const bytes = Uint8Array.from({ length: 12 }, () => [0x41, 0x80, 0xbf, 0xc2, 0xe0, 0xed, 0xa0, 0xf0, 0xf4, 0x90, 0xff][draw(11)]);
    const whole = new Uint8Array([...bytes, 0x41]);  // what is cut off at the end is never told
    assert.equal(new Utf8Decoder().decode(whole), new TextDecoder("utf-8", { ignoreBOM: true }).decode(whole));
  }
});

test("events are read whatever ends a line and wherever the text is cut", () => {
  const lines = ["\ufeff: hello", "retry: 1500", "", "id: e-1", "event: init", "data: {\"a\":", "data:  1}", "", "data", "", "id: x\0y",
    "data: 2", "", "event: lost", "", "retry: soon", "unknown: 1", "data: 3", "", "data: never ended"];
  const expected = [
    { retry: 1500 }, { event: "init", id: "e-1", data: "{\"a\":\n 1}" }, { event: "message", id: "e-1", data: "" },
    { event: "message", id: "e-1", data: "2" }, { event: "message", id: "e-1", data: "3" },
  ];
  for (const end of ["\n", "\r\n", "\r"]) {
    const text = lines.join(end);
    for (let cut = 0; cut <= text.length; cut++) {
      const parser = new EventParser();
      assert.deepEqual([...parser.feed(text.slice(0, cut)), ...parser.feed(text.slice(cut))], expected);
    }
  }
});

const work = (n, more = {}) => ({
  _id: `w${n}`, user_openid: "o-1", type: "photography", status: "pending", progress: 0, images: [], error: null,
  created_at: `2026-01-01T00:00:${String(n).padStart(2, "0")}.000Z`, ...more,
});

test("conditions mean what CloudBase's mean", () => {
  const db = database({ baseUrl: "http://127.0.0.1:9" });
  const doc = work(7, { status: "failed", progress: 40, error: { code: "time_limit" }, tags: ["a", "b"] });
  const holds = (where) => {
    const works = new Works();
    works.replace([doc]);
    return new View(where, [], 10).open(works, 1).length === 1;
  };
  for (const where of [
    {}, { status: "failed" }, { user_openid: "{openid}" }, { _openid: "o-1" }, { "error.code": "time_limit" }, { error: { code: "time_limit" } },
    { tags: "b" }, { missing: null }, { status: _.in(["failed", "x"]) }, { status: _.nin(["x"]) }, { status: _.neq("x") }, { status: /^fa/ },
    { progress: _.gt(39).lt(41) }, { progress: _.gte(40).and(_.lte(40)) }, { progress: _.lt(1).or(_.eq(40)) }, { stage: _.exists(false) },
    { created_at: _.lt(new Date("2026-01-02")) }, _.or([{ status: "x" }, { progress: 40 }]), _.and({ status: "failed" }, { progress: 40 }),
    { status: _.not(_.eq("x")) }, _.nor({ status: "x" }, { progress: 41 }), { progress: _.mod(7, 5) }, { progress: _.mod([7, 5]) },
    { tags: _.all(["b", "a"]) }, { tags: _.size(2) }, { tags: _.elemMatch(_.eq("b")) }, { status: _.nor([_.eq("x")]) },
    { status: db.RegExp({ regexp: "^FAIL", options: "i" }) }, { created_at: _.lt(db.serverDate()) },
  ]) assert.ok(holds(where), JSON.stringify(where));
  for (const where of [
    { status: "x" }, { progress: "40" }, { progress: _.gt("3") }, { error: null }, { error: { code: "x" } }, { tags: "c" }, { status: _.in([]) },
    { progress: _.gt(40) }, _.or([{ status: "x" }, { progress: 41 }]), { missing: _.exists(true) }, { "a.b.c": 1 },
    { tags: _.size(1) }, { tags: _.all(["a", "c"]) }, { status: _.nor({ status: "x" }, _.eq("failed")) }, { progress: _.mod(7, 4) },
    { created_at: _.gt(db.serverDate({ offset: 1000 })) },
  ]) assert.ok(!holds(where), JSON.stringify(where));
});

test("a query that can't be meant is refused where it is written", () => {
  const works = database({ baseUrl: "http://127.0.0.1:9" }).collection("works");
  assert.throws(() => works.where({ user_openid: undefined }), /undefined/);
  assert.throws(() => works.orderBy("progress", "down"), /asc/);
  assert.throws(() => works.limit(0), /limit/);
  assert.throws(() => works.watch({}), /onChange/);
  assert.throws(() => database().collection("users"), /works/);
  assert.throws(() => works.where({ progress: _.inc(1) }), /changes/);
  assert.throws(() => works.where({ created_at: _.geoNear({}) }), /geo/);
  assert.throws(() => _.aggregate.sum("$progress"), /reckon/);
  assert.throws(() => database().Geo.Point(1, 2), /Geo/);
  assert.throws(() => database().collection("task_queue").watch({ onChange() {} }), /Watch "works"/);
  assert.throws(() => works.doc(), /id/);
  assert.equal(new DarkroomError(402, "No.").errCode, 402);
});

test("whatever happens to works, a list and its changes tell the same", () => {
  const draw = random(5);
  for (let round = 0; round < 60; round++) {
    const works = new Works(), truth = new Map(), limit = 1 + draw(6);
    const where = [{}, { status: "completed" }, { progress: _.gt(30) }][draw(3)];
    const orders = [[], [["progress", "asc"]], [["created_at", "desc"]]][draw(3)];
    const view = new View(where, orders, limit);
    works.replace([]);
    view.open(works, 0);
    let page = [];
    for (let id = 1; id < 60; id++) {
      const n = draw(9), known = truth.has(`w${n}`);
      const doc = work(n, { progress: draw(10) * 10, status: ["pending", "completed"][draw(2)] });
      const isRemoval = known && draw(4) === 0;
      if (isRemoval) truth.delete(doc._id);
      else truth.set(doc._id, doc);
      const change = { id, docId: doc._id, doc, dataType: isRemoval ? "remove" : known ? "update" : "add", queueType: "update" };
      works.apply(change);
      const told = view.change(works, change);
      for (const each of told) {  // a page that keeps its list by the changes alone
        page = page.filter((one) => one._id !== each.docId);
        if (each.queueType !== "dequeue") page.push(each.doc);
        assert.ok(LEGAL[each.dataType].includes(each.queueType), `${each.dataType}/${each.queueType}`);
      }
      const fresh = new View(where, orders, limit);
      const everything = new Works();
      everything.replace([...truth.values()]);
      fresh.open(everything, id);
      assert.deepEqual(view.docs, fresh.docs);
      assert.deepEqual(new Set(page.map((one) => one._id)), new Set(fresh.docs.map((one) => one._id)));
      for (const one of page) assert.deepEqual(one, fresh.docs.find((each) => each._id === one._id));
    }
  }
});

const LEGAL = {
  add: ["enqueue"], remove: ["dequeue"], update: ["update", "enqueue", "dequeue"], replace: ["update", "enqueue", "dequeue"],
  limit: ["enqueue", "dequeue"],
};

test("times are Dates where one gets, and texts where one watches, as in the original", async () => {
  const task = { task_id: "t1", work_id: "w1", status: "completed", created_at: "2026-01-31T08:00:00.000Z", finished_at: null };
  const wx = { request: ({ success }) => setTimeout(() => success({ statusCode: 200, header: {}, data: JSON.stringify(task) })) };
  const { data } = await database({ wx }).collection("task_queue").doc("t1").get();
  assert.deepEqual([data.created_at, data.finished_at, data._id], [new Date("2026-01-31T08:00:00Z"), null, "t1"]);
});

test("a page of older works brings back nothing that has gone, and no older state", () => {
  const works = new Works();
  const hundred = Array.from({ length: 100 }, (_unused, n) => work(0, { _id: `n${n}`, created_at: `2026-02-01T00:00:00.${999 - n}Z` }));
  works.replace(hundred);
  const old = (n, more) => work(0, { _id: `o${n}`, created_at: `2026-01-01T00:00:00.${500 - n}Z`, ...more });
  works.apply({ id: 1, docId: "o1", dataType: "update", queueType: "update", doc: old(1, { progress: 50 }) });
  works.apply({ id: 2, docId: "o2", dataType: "remove", queueType: "dequeue", doc: old(2) });
  assert.equal(works.inSight().length, 100, "what is beyond the horizon is not in sight");
  works.addOlder([hundred[99], old(1), old(2), old(3)], "");
  assert.deepEqual(works.inSight().filter((doc) => doc._id[0] === "o").map((doc) => [doc._id, doc.progress]), [["o1", 50], ["o3", 0]]);
});

/** Numbers below n, the same in each run. */
function random(seed) {
  let state = seed;
  return (n) => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor((state / 2147483648) * n);
  };
}
