// A page that keeps its list three times: by the names of many pages, by CloudBase's queueType, and by its dataType.
const app = getApp()
const db = wx.cloud.database()
Page({
  data: { works: null },
  lists: { names: [], queue: [], data: [] },
  onLoad() {
    db.collection("works").where({ user_openid: app.globalData.userInfo.openid }).watch({
      onChange: (snapshot) => this.take(snapshot),
      onError: (error) => console.error(error),
    })
  },
  take(snapshot) {
    snapshot.docChanges.forEach((change) => {
      switch (change.queueType) {
        case "add": this.enter("names", change); break
        case "update": this.update("names", change); break
        case "remove": this.leave("names", change); break
      }
      switch (change.queueType) {
        case "enqueue": this.enter("queue", change); break
        case "update": this.update("queue", change); break
        case "dequeue": this.leave("queue", change); break
      }
      switch (change.dataType) {
        case "add": this.enter("data", change); break
        case "update": case "replace": this.update("data", change); break
        case "remove": this.leave("data", change); break
      }
    })
    this.setData({ works: this.lists })
  },
  enter(list, { doc }) { this.lists[list].unshift(`${doc._id} ${doc.status}`) },
  update(list, { doc }) { this.lists[list] = this.lists[list].map((each) => each.startsWith(doc._id) ? `${doc._id} ${doc.status}` : each) },
  leave(list, { docId }) { this.lists[list] = this.lists[list].filter((each) => !each.startsWith(docId)) },
})
