#!/bin/sh
# One would guess: an SDK that repeats an order at 429 waits in between, by Retry-After where the server says one, as the
# service's own documentation asks; its package for Python does not even repeat it.
# What happens: the SDK for JavaScript sends the order six times within milliseconds, and a GET likewise.  It computes a
# pause of 500 ms, doubled each time, with random jitter; and it pauses only if that number is a whole one, which it never
# is.  Retry-After is read only for errors that its own request does not throw.
# Why it matters to us: a user at the limit of open tasks costs a web six orders within milliseconds, so a refused order must
# be cheap and store nothing; and a limit that passes within a second is of no use to this SDK.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund replicate@1.4.0 > npm.log 2>&1 || { cat npm.log; exit 1; }
cat > seen.js <<'JS'
const http = require('http')
const Replicate = require('replicate')

const came = []
const server = http.createServer((request, response) => {
  came.push(performance.now())
  request.resume().on('end', () => {
    response.writeHead(429, { 'Content-Type': 'application/json', 'Retry-After': '30' })
    response.end('{"detail":"At most 4 predictions are open; try again in 30 s."}')
  })
})
server.listen(0, '127.0.0.1', async () => {
  const baseUrl = `http://127.0.0.1:${server.address().port}/v1`
  const client = new Replicate({ baseUrl, auth: 't' })
  console.log('replicate', require('replicate/package.json').version, 'on Node', process.version)
  const seen = {}
  for (const [what, call] of [
    ['POST', () => client.predictions.create({ model: 'o/n', input: {} })],
    ['GET', () => client.predictions.get('p1')],
  ]) {
    came.length = 0
    await call().catch(() => {})
    seen[what] = { times: came.length, milliseconds: Math.round(came.at(-1) - came[0]) }
    console.log(`${what}: ${seen[what].times} requests, the last ${seen[what].milliseconds} ms after the first`)
  }
  process.exit(seen.POST.times === 6 && seen.POST.milliseconds < 1000 && seen.GET.times === 6 ? 0 : 1)
})
JS
node seen.js
