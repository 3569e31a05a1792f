/** Vue: a list that stays up to date, of one type at a time, and a button that orders. */

import { createApp, defineComponent, h, ref, type Ref } from "vue";

import { database, DarkroomError, type Work } from "darkroom-client";
import { useWorks } from "darkroom-client/vue";

const { baseUrl, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const db = database({ baseUrl, token, timing: { longestPauseMs: 500 } });

const Prints = defineComponent({
  props: { type: { type: String, required: true } },
  setup(props) {
    const { works, state, error, isLoading } = useWorks(db, (all) => all.where({ type: props.type }).limit(20));
    const line = (work: Work) => h("li", { id: work._id, key: work._id }, [
      `${work.status} ${work.progress} %`, ...work.images.map(({ url }) => h("img", { src: url, alt: "" })),
    ]);
    return () => [
      h("p", { id: "state" }, isLoading.value ? "loading" : state.value),
      h("p", { id: "error" }, error.value?.message),
      h("ul", works.value.map(line)),
    ];
  },
});

const Count = defineComponent(() => {
  const { works } = useWorks(db);
  return () => h("p", { id: "count" }, works.value.length);
});

const App = defineComponent(() => {
  const type = ref("poster"), isShown = ref(true), told: Ref<string> = ref("");
  const order = (prompt: string) => db.submit({ type: type.value, params: { prompt } }).then(
    ({ work_id }) => { told.value = work_id; },
    (error: DarkroomError) => { told.value = `${error.status} ${error.message}`; });
  return () => [
    h("button", { id: "order", onClick: () => order("wait") }, "Order"),
    h("button", { id: "wrong", onClick: () => order("x".repeat(4001)) }, "Wrong"),
    h("button", { id: "type", onClick: () => { type.value = type.value === "poster" ? "flyer" : "poster"; } }, type.value),
    h("button", { id: "hide", onClick: () => { isShown.value = !isShown.value; } }, "Hide"),
    h("p", { id: "told" }, told.value),
    ...(isShown.value ? [h(Prints, { type: type.value }), h(Count)] : []),
  ];
});

Object.assign(globalThis, { db });
createApp(App).mount("main");
