#!/bin/sh
# One would guess: effects run in the browser alone, as React's do: renderToString draws a page and starts nothing, so a
# composable may open a connection in watchEffect and close it in the effect's cleanup.
# What happens: vue runs a component's watchEffect once while it renders on a server, and watch with `immediate` too, and runs
# their cleanups at once.  watchPostEffect and onMounted do not run.  The page's HTML is the same in each case.
# Why it matters to us: useWorks of clients/js watches in watchPostEffect.  With watchEffect each page that a server renders
# would ask for a user's token and begin a stream there, to end it before its first byte.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund vue@3.5.45 > npm.log 2>&1 || { cat npm.log; exit 1; }
cat > seen.mjs <<'JS'
import { createSSRApp, h, onMounted, ref, version, watch, watchEffect, watchPostEffect } from 'vue'
import { renderToString } from 'vue/server-renderer'

const told = { opened: 0, closed: 0 }
const connect = (onCleanup) => {
  told.opened += 1
  onCleanup(() => { told.closed += 1 })
}
const source = ref('poster')
// What each way opens, and closes again, while a server renders a page with it.
const CASES = [
  ['watchEffect', () => watchEffect(connect), 1],
  ['watch, immediate', () => watch(source, (_now, _before, onCleanup) => connect(onCleanup), { immediate: true }), 1],
  ['watchPostEffect', () => watchPostEffect(connect), 0],
  ['onMounted', () => onMounted(() => connect(() => {})), 0],
]
console.log('vue', version)
let wrong = 0
for (const [name, use, opens] of CASES) {
  Object.assign(told, { opened: 0, closed: 0 })
  const html = await renderToString(createSSRApp({ setup: () => { use(); return () => h('p', 'a page') } }))
  source.value += '!'
  await new Promise((done) => setTimeout(done, 50))
  console.log(`${name.padEnd(17)} ${html}  opened ${told.opened}, closed ${told.closed}`)
  wrong += html !== '<p>a page</p>' || told.opened !== opens || told.closed !== opens
}
process.exit(wrong ? 1 : 0)
JS
node seen.mjs
