#!/bin/sh
# One would guess: a member of a request that is not in `required` may be left out, and a `default` says what is then taken.
# What happens: openapi-typescript makes a member with a `default` required, in requests as in answers: it takes the default for
# a promise that the member is there.  A request that leaves it out, which the schema allows, does not compile.  Parameters
# of a query with a default stay optional.  `--default-non-nullable=false` says otherwise, if its user knows of it.
# Why it matters to us: `count` and `prompt` of an order had defaults in /openapi.json, so whoever generated types had to send
# both with each order.  Schemas of requests there have no `default`: their descriptions say it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund openapi-typescript@7.13.0 typescript@5.9.3 > npm.log 2>&1 || { cat npm.log; exit 1; }
cat > openapi.json <<'JSON'
{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/orders": {"post": {
  "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer", "default": 20}}],
  "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}},
  "responses": {"204": {"description": "Taken."}}}}},
 "components": {"schemas": {"Order": {"type": "object", "required": ["type"], "properties": {
  "type": {"type": "string"}, "count": {"type": "integer", "default": 1}, "note": {"type": "string"}}}}}}
JSON
cat > order.ts <<'TS'
import type { components, paths } from "./api";
export const order: components["schemas"]["Order"] = { type: "poster" };
export const query: NonNullable<paths["/orders"]["post"]["parameters"]["query"]> = {};
TS
compiles() {  # with these options of the generator: "yes", or the member that is missing
  node_modules/.bin/openapi-typescript openapi.json --output api.d.ts "$@" > made.log 2>&1 || { cat made.log; exit 1; }
  node_modules/.bin/tsc --strict --noEmit --skipLibCheck order.ts > said.log && echo yes || sed -n "s/.*Property '\(.*\)' is missing.*/\1/p" said.log
}
echo "openapi-typescript $(node -p 'require("openapi-typescript/package.json").version')"
plain=$(compiles)
told=$(compiles --default-non-nullable=false)
echo "an order without count compiles: ${plain}, with --default-non-nullable=false: ${told}"
[ "$plain" = count ] && [ "$told" = yes ]
