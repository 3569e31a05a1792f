/** Shows no page and keeps no file: it only brings the console back when its notification is pressed. */
addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil((async () => {
    const pages = await clients.matchAll({ type: "window", includeUncontrolled: true });
    const ours = pages.find(({ url }) => new URL(url).pathname === "/");
    await (ours ? ours.focus() : clients.openWindow("/"));
  })());
});
