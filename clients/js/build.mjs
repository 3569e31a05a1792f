/**
 * Makes what `npm pack` packs: `dist/` (ES modules, CommonJS, types) and `miniprogram_dist/` (one file for WeChat).
 *
 * The client is the file that the server serves, without its comments; a test compares both by their syntax trees.  The
 * rest is in `src/`.  Nothing but Node is needed.
 */

import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const at = (path) => new URL(path, import.meta.url);
const SERVED = at("../../web/static/darkroom.js"), LICENSE = at("../../LICENSE");
const MODULES = { index: SERVED, works_list: at("src/works_list.js"), react: at("src/react.js"), vue: at("src/vue.js") };
const { name, version } = JSON.parse(readFileSync(at("package.json"), "utf8"));
const BANNER = `/* ${name} ${version}, MIT. With comments: web/static/darkroom.js and clients/js/src of Darkroom. */\n`;

/** Blocks and lines of comment, comments behind code (two spaces before them), and casts of types. */
const withoutComments = (code) => code
  .replace(/^ *\/\*[^]*?\*\/\n/gm, "").replace(/^ *\/\/.*\n/gm, "").replace(/ {2}\/\/ .*$/gm, "")
  .replace(/\/\*\* @type [^]*?\*\/ /g, "").replace(/\n{2,}/g, "\n").replace(/^\n/, "");

const besideIn = (suffix) => (_, before, path) => `${before}"${path}${suffix}"`;
const asCommonJs = (code) => `"use strict";\n${code
  .replace(/^import (\{[^{}]*\}) from (".*");$/gm, "const $1 = require($2);")
  .replace(/(require\()"(\.\/\w+)\.js"/g, besideIn(".cjs"))
  .replace(/^export (\{[^{}]*\});$/m, "module.exports = $1;")}`;
const typesForCommonJs = (types) => types.replace(/( from )"(\.\/\w+)\.js"/g, besideIn(".cjs"));

for (const folder of ["dist/", "miniprogram_dist/"]) {
  rmSync(at(folder), { recursive: true, force: true });
  mkdirSync(at(folder));
}
for (const [module, source] of Object.entries(MODULES)) {
  const code = BANNER + withoutComments(readFileSync(source, "utf8"));
  const types = readFileSync(at(`src/${module}.d.ts`), "utf8");
  writeFileSync(at(`dist/${module}.js`), code);
  writeFileSync(at(`dist/${module}.cjs`), asCommonJs(code));
  writeFileSync(at(`dist/${module}.d.ts`), types);
  writeFileSync(at(`dist/${module}.d.cts`), typesForCommonJs(types));
}
copyFileSync(at("dist/index.cjs"), at("miniprogram_dist/index.js"));
copyFileSync(at("dist/index.d.ts"), at("miniprogram_dist/index.d.ts"));
copyFileSync(LICENSE, at("LICENSE"));
