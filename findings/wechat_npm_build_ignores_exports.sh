#!/bin/sh
# One would guess: WeChat's "Build npm" finds a package's entry as Node and bundlers do, by the `exports` map of its manifest;
# and a package that it can't build fails the build.
# What happens: the builder of the developer tools (miniprogram-ci is the same builder as a program) does not read `exports`.
# A package that has nothing else, or whose `main` ends in .cjs, is left out of miniprogram_npm; the build succeeds all the
# same, and tells of it in `warnList` alone.  A page that requires the package fails on the phone.  A folder that the manifest
# names as `miniprogram` is copied byte for byte, whatever `main` and `exports` say.
# Why it matters to us: clients/js/package.json has `exports` for Node and bundlers, and its `main` is a .cjs file, since its
# type is "module".  Without `miniprogram` and a whole file in that folder, no mini-program could load the client.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund miniprogram-ci@2.1.42 > npm.log 2>&1 || { cat npm.log; exit 1; }
cat > seen.cjs <<'JS'
const fs = require('fs')
const path = require('path')
const { createRequire } = require('module')
const ci = require('miniprogram-ci')

const CODE = 'module.exports = { greet: () => "hello" }\n'
const EXPORTS = { '.': { require: './index.cjs' } }
// Each is a whole package: Node takes every one of them.
const CASES = {
  'main-alone': { manifest: { main: 'index.js' }, files: ['index.js'], isBuilt: true },
  'exports-alone': { manifest: { exports: EXPORTS }, files: ['index.cjs'], isBuilt: false },
  'main-is-cjs': { manifest: { type: 'module', main: './index.cjs', exports: EXPORTS }, files: ['index.cjs'], isBuilt: false },
  'names-a-folder': {
    manifest: { type: 'module', main: './index.cjs', exports: EXPORTS, miniprogram: 'phone' },
    files: ['index.cjs', 'phone/index.js'], isBuilt: true, isCopied: true,
  },
}

const app = path.join(__dirname, 'app')
const dependencies = {}
for (const [name, { manifest, files }] of Object.entries(CASES)) {
  const folder = path.join(app, 'node_modules', name)
  dependencies[name] = '1.0.0'
  for (const file of files) {
    fs.mkdirSync(path.dirname(path.join(folder, file)), { recursive: true })
    fs.writeFileSync(path.join(folder, file), CODE)
  }
  fs.writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ name, version: '1.0.0', ...manifest }))
}
fs.writeFileSync(path.join(app, 'package.json'), JSON.stringify({ name: 'app', version: '1.0.0', dependencies }))

ci.packNpmManually({ packageJsonPath: path.join(app, 'package.json'), miniprogramNpmDistDir: app, ignores: [] }).then((told) => {
  console.log('miniprogram-ci', require('miniprogram-ci/package.json').version)
  let wrong = 0
  for (const [name, { isBuilt, isCopied }] of Object.entries(CASES)) {
    const byNode = createRequire(path.join(app, 'page.js'))(name).greet()
    const made = path.join(app, 'miniprogram_npm', name, 'index.js')
    const isThere = fs.existsSync(made)
    const isSame = isThere && fs.readFileSync(made, 'utf8') === CODE
    const warned = told.warnList.some((each) => each.jsPath.includes(name))
    console.log(`${name.padEnd(15)} Node: ${byNode}; built: ${isThere}; copied as it is: ${isSame}; warned: ${warned}`)
    wrong += isThere !== isBuilt || warned === isBuilt || byNode !== 'hello' || isSame !== Boolean(isCopied)
  }
  process.exit(wrong ? 1 : 0)
}, (error) => {
  console.log('the build failed:', String(error))
  process.exit(1)
})
JS
node seen.cjs
