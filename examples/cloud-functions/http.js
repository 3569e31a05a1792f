// The same over plain HTTP, with no SDK between: any host that has `fetch` (Node 18) runs it.
exports.order = async (openid, { orderId, type, params }) => {
  const headers = {
    'Content-Type': 'application/json',
    Authorization: `Bearer ${process.env.DARKROOM_TOKEN}`, // darkroom token functions --role service --ttl 31536000
    'X-User': openid,
  }
  if (orderId) headers['Idempotency-Key'] = orderId // sent again, it names the same task; `undefined` would be a text
  const answer = await fetch(`${process.env.DARKROOM_URL}/v1/tasks`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ type, params }),
  })
  const told = await answer.json()
  if (!answer.ok) return { success: false, message: told.detail } // problem+json: `detail` is the sentence
  return { success: true, data: { task_id: told.task_id, work_id: told.work_id }, message: '' }
}
