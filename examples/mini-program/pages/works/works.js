// @ts-check
/** @typedef {import("../../darkroom.js").Picture} Picture */
const { db } = getApp();

const STATUS = {
  pending: "排队中", processing: "制作中", ai_processing: "AI 处理中",
  completed: "已完成", failed: "失败", cancelled: "已取消",
};
const LINK = { connecting: "连接中…", live: "", polling: "", lost: "网络不稳，正在重连…" };
const OPEN = ["pending", "processing", "ai_processing"];

Page({
  data: {
    works: /** @type {any[]} */ ([]),
    link: LINK.connecting,
    isSending: false,
  },

  /** The watch on this page's works. @type {{close: () => Promise<void>} | null} */
  watcher: null,
  /** What each work was when we last looked. @type {Map<string, string>} */
  seen: new Map(),

  onLoad() {
    // The one line that differs from wx.cloud.database(): where `db` comes from.
    this.watcher = db.collection("works").orderBy("created_at", "desc").limit(20).watch({
      onChange: (/** @type {any} */ snapshot) => this.show(snapshot.docs),
      onError: (/** @type {any} */ error) => wx.showToast({ title: error.errMsg, icon: "none" }),
      onState: (/** @type {keyof typeof LINK} */ state) => this.setData({ link: LINK[state] }),
    });
  },

  onUnload() {
    if (this.watcher) this.watcher.close();
  },

  /** @param {any[]} docs */
  show(docs) {
    for (const { _id, status } of docs) {
      const before = this.seen.get(_id);
      if (before && before !== status && status === "completed") wx.showToast({ title: "照片好了" });
      if (before && before !== status && status === "failed") wx.showToast({ title: "制作失败，点数已退还", icon: "none" });
      this.seen.set(_id, status);
    }
    this.setData({
      works: docs.map((doc) => ({
        id: doc._id,
        taskId: doc.task_id,
        status: STATUS[/** @type {keyof typeof STATUS} */ (doc.status)],
        progress: doc.progress,
        stage: doc.stage,
        isOpen: OPEN.includes(doc.status),
        error: doc.error ? doc.error.message : "",
        pictures: doc.images.map((/** @type {Picture} */ image) => image.url),
        small: doc.images.map((/** @type {Picture} */ image) => (image.thumbnail || image).url),
      })),
    });
  },

  /** Choose a photo and order a picture of it. */
  async order() {
    if (this.data.isSending) return;
    try {
      const { tempFiles } = await wx.chooseMedia({ count: 1, mediaType: ["image"] });
      this.setData({ isSending: true });
      const image = await db.upload(tempFiles[0].tempFilePath);
      await db.submit({ type: "photography", params: { images: [image.id], sceneId: "sunset" } });
    } catch (error) {
      const { errMsg } = /** @type {{errMsg: string}} */ (error);
      if (!/cancel/.test(errMsg)) wx.showToast({ title: errMsg, icon: "none" });
    } finally {
      this.setData({ isSending: false });
    }
  },

  /** @param {WechatMiniprogram.TouchEvent} event */
  cancel(event) {
    return db.cancel(event.currentTarget.dataset.task);
  },

  /** @param {WechatMiniprogram.TouchEvent} event */
  look(event) {
    const { url, all } = event.currentTarget.dataset;
    wx.previewImage({ current: url, urls: all });
  },
});
