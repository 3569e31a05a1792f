// The cloud function that orders, with the SDK that it has: what is new is what `cloud.init` is given.
const cloud = require('wx-server-sdk')
cloud.init({
  env: cloud.DYNAMIC_CURRENT_ENV,
  serviceUrl: process.env.DARKROOM_URL + '/tcb/admin',
  secretId: process.env.DARKROOM_SECRET_ID,
  secretKey: process.env.DARKROOM_SECRET_KEY,
})
const tasks = cloud.database().collection('task_queue')

exports.main = async (event) => {
  const { OPENID } = cloud.getWXContext()
  const taskId = event.orderId // made by the page, once for each order: sent again, it orders nothing more
  try {
    await tasks.add({
      data: {
        _id: taskId,
        user_openid: OPENID,
        type: event.type,
        status: 'pending',
        params: event.params,
        created_at: new Date(),
      },
    })
    const { data: task } = await tasks.doc(taskId).get()
    return { success: true, data: { task_id: task._id, work_id: task.work_id }, message: '' }
  } catch (error) {
    return { success: false, message: error.message }
  }
}
