/** A mini-program's page, as WeChat's TypeScript template has it. */

import { database, type Database, type Picture, type Work } from "darkroom-client";

const app = getApp<{ db: Database }>();
const DONE: Partial<Record<Work["status"], string>> = { completed: "已完成", failed: "失败", cancelled: "已取消" };

Page({
  data: { works: [] as { id: string; status: string; progress: number; pictures: string[] }[], isSending: false },
  watcher: null as ReturnType<ReturnType<Database["collection"]>["doc"]> | null,
  onLoad() {
    app.db.collection("works").orderBy("created_at", "desc").limit(20).watch({
      onChange: ({ docs }) => this.setData({
        works: docs.map((doc) => ({
          id: doc._id, status: DONE[doc.status] ?? doc.stage, progress: doc.progress,
          pictures: doc.images.map((image: Picture) => (image.thumbnail ?? image).url),
        })),
      }),
      onError: ({ errMsg }) => void wx.showToast({ title: errMsg, icon: "none" }),
    });
  },
  async order() {
    const { tempFiles } = await wx.chooseMedia({ count: 1, mediaType: ["image"] });
    const { id } = await app.db.upload(tempFiles[0]!.tempFilePath);
    await app.db.submit({ type: "photography", params: { images: [id], sceneId: "sunset" } });
  },
  /** As pages for CloudBase are written: by callbacks, and by documents. */
  cancel(event: { currentTarget: { dataset: { task: string } } }) {
    app.db.collection("task_queue").doc(event.currentTarget.dataset.task).update({
      data: { status: "cancelled" },
      success: ({ stats }) => console.log(stats.updated),
      fail: (error) => wx.showToast({ title: error.errMsg, icon: "none" }),
    });
  },
  again() {
    return app.db.collection("task_queue")
      .add({ data: { type: "photography", params: { images: ["https://example.org/a.jpg"] }, _id: "order-1" } })
      .then(({ _id, work_id }) => _id + work_id);
  },
});

App({ db: database({ baseUrl: "https://pictures.example.com", token: () => new Promise<string>((got) => got("")) }) });
