// The function `submit` that the page calls, while users move over: some orders go the old way, some the new one.
const crypto = require('crypto')
const cloud = require('wx-server-sdk') // the cloud itself: no serviceUrl here
cloud.init({ env: cloud.DYNAMIC_CURRENT_ENV })
const { order } = require('./http.js')
const { withLinks } = require('./photos.js')
const { oldSubmit } = require('./old.js') // what `submit` has done so far

function goesToDarkroom(openid, percent) {
  const bucket = crypto.createHash('sha256').update(openid).digest().readUInt16BE(0) % 100
  return bucket < percent // the same user always lands on the same side
}

exports.main = async (event) => {
  const { OPENID } = cloud.getWXContext()
  if (!goesToDarkroom(OPENID, Number(process.env.DARKROOM_PERCENT || 0))) return oldSubmit(event, OPENID)
  return order(OPENID, { ...event, params: await withLinks(cloud, event.params) })
}
