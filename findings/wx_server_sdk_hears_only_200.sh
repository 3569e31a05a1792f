#!/bin/sh
# One would guess: an SDK over HTTP takes 201 and 202 for success, and tells what the body of a 402 or 429 says, since the
# same body under 200 makes it throw with that sentence.
# What happens: wx-server-sdk (with the @cloudbase/node-sdk that it brings) reads the body of a 200 alone.  A 201 or 202 with
# a complete answer is thrown as "resource system error. 202 Accepted"; a refusal with `code` and `message` under 402 or 429
# loses both.  Under HTTP 200 the same refusal is thrown with its sentence and the code that belongs to it.
# Why it matters to us: POST /tcb/admin must answer 200 whatever it says.  A 202 for an accepted order, as POST /v1/tasks has
# it, would be an order that is paid and that the function believes to have failed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund wx-server-sdk@4.0.2 > npm.log 2>&1 || { cat npm.log; exit 1; }
cat > seen.js <<'JS'
const http = require('http')
const cloud = require('wx-server-sdk')

const GOOD = { requestId: 'r', data: { insertedIds: ['T1'] } }
const REFUSED = { requestId: 'r', code: 'EXCEED_REQUEST_LIMIT', message: 'Three orders are open; wait for one.' }
const CASES = [
  [200, GOOD, (seen) => seen === 'T1'],
  [201, GOOD, (seen) => seen.includes('-501001') && seen.includes('201 Created')],
  [202, GOOD, (seen) => seen.includes('-501001') && seen.includes('202 Accepted')],
  [200, REFUSED, (seen) => seen.includes('-501003') && seen.includes(REFUSED.message)],
  [402, REFUSED, (seen) => seen.includes('-501001') && !seen.includes(REFUSED.message)],
  [429, REFUSED, (seen) => seen.includes('-501001') && !seen.includes(REFUSED.message)],
]
let answer
const server = http.createServer((request, response) => {
  request.resume().on('end', () => {
    response.writeHead(answer[0], { 'Content-Type': 'application/json' })
    response.end(JSON.stringify(answer[1]))
  })
})
server.listen(0, '127.0.0.1', async () => {
  const serviceUrl = `http://127.0.0.1:${server.address().port}/tcb/admin`
  cloud.init({ env: 'any', secretId: 'id', secretKey: 'key', serviceUrl })
  console.log('wx-server-sdk', require('wx-server-sdk/package.json').version, 'on Node', process.version)
  let wrong = 0
  for (const [status, body, isExpected] of CASES) {
    answer = [status, body]
    const added = cloud.database().collection('task_queue').add({ data: { a: 1 } })
    const seen = await added.then((told) => told._id, (error) => error.message.replace(/ \| \[.*/, ''))
    console.log(`HTTP ${status}, ${body.code ? 'a refusal' : 'success'} in the body: ${seen}`)
    if (!isExpected(seen)) wrong += 1
  }
  process.exit(wrong ? 1 : 0)
})
JS
node seen.js 2> warnings.log
