/** Mistakes, each refused by `tsc --strict`: one in each statement that follows a line of slashes and its words. */

import { command as _, database, DarkroomError } from "darkroom-client";
import { useWorks } from "darkroom-client/react";
import { useWorks as useVueWorks } from "darkroom-client/vue";

const db = database({ baseUrl: "" });
const works = db.collection("works"), tasks = db.collection("task_queue");
const onChange = () => {};

//// there is no such collection
db.collection("users");
//// a token is a text
database({ token: 5 });
//// an option that does not exist
database({ url: "https://pictures.example.com" });
//// an order has a type
db.submit({ params: {} });
//// an order's inputs are under params
db.submit({ type: "poster", images: ["a"] });
//// ids, not uploads
db.submit({ type: "poster", params: { images: [{ id: "a" }] } });
//// a count is a number
db.submit({ type: "poster", params: { count: "2" } });
//// a key is a member
db.submit({ type: "poster", params: {} }, "key-1");
//// a status that works do not have
works.where({ status: "done" });
//// a field that works do not have
works.where({ state: "completed" });
//// a number is no text
works.where({ progress: "100" });
//// two directions
works.orderBy("created_at", "newest");
//// an order by a field that is not there
works.orderBy("createdAt", "desc");
//// a limit is a number
works.limit("20");
//// a watch tells somebody
works.watch({});
//// words of another library
works.watch({ onChange, onerror: () => {} });
//// tasks can't be watched: watch their works
tasks.watch({ onChange });
//// works are Darkroom's to write
works.add({ data: {} });
//// a work does not change by hand
works.doc("1").update({ data: { status: "completed" } });
//// a task is cancelled or run again
tasks.doc("1").update({ data: { status: "completed" } });
//// a list has no end
works.watch({ onChange: ({ docs }) => docs.length() });
//// what left out a field gives it perhaps
works.field({ type: true }).get().then(({ data }) => data[0]!.status.length);
//// a time that get gives is a Date
works.get().then(({ data }) => data[0]!.created_at.slice(0, 10));
//// a time that a watch gives is a text
works.watch({ onChange: ({ docs }) => docs[0]!.created_at.getTime() });
//// with a callback there is no promise
works.get({ success: () => {} }).then(() => {});
//// an error may be null
works.watch({ onChange: ({ docs }) => docs[0]!.error.code });
//// a status is a number
new DarkroomError("402", "x");
//// conditions know their names
_.greater(5);
//// a list is looked into
_.in("completed");
//// a path is no picture
db.upload(5);
//// an estimate is no order
db.estimate({ type: "poster", params: {} }).then(({ task_id }) => task_id);
//// React's query needs what it depends on
useWorks(db, (all) => all.limit(20));
//// the list is not the page's to change
useWorks(db).works.push();
//// a query that is not of works
useWorks(db, () => tasks, []);
//// Vue's values are refs
useVueWorks(db).works.length;
//// refs that can't be set
useVueWorks(db).state.value = "live";
