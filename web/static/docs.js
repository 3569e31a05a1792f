/**
 * Shows `/openapi.json` as a page.  It knows only what our own document uses of OpenAPI 3.1, and puts everything into
 * the page as text, never as markup.
 */

const VERBS = ["get", "post", "put", "patch", "delete"];

/** An element: `h("p", { class: "soft" }, "text", child)`. */
function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(key, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** Text in which `code` is code. */
function prose(text = "") {
  return text.split("`").map((part, n) => (n % 2 ? h("code", {}, part) : part));
}

function paragraphs(text = "") {
  return text.split("\n\n").map((part) => h("p", {}, ...prose(part)));
}

const nameOf = (reference) => reference.split("/").pop();
const anchor = (text) => text.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "").toLowerCase();

/** What a schema is, in a few words, with links to the named ones. */
function kind(schema) {
  if (!schema || !Object.keys(schema).length) return ["anything"];
  if (schema.$ref) return [h("a", { href: `#schema-${anchor(nameOf(schema.$ref))}` }, nameOf(schema.$ref))];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.flatMap((each, n) => (n ? [" or ", ...kind(each)] : kind(each)));
  if (schema.allOf?.length === 1) return kind(schema.allOf[0]);
  if (schema.const !== undefined) return [h("code", {}, JSON.stringify(schema.const))];
  if (schema.enum) return schema.enum.flatMap((each, n) => [n ? " " : "", h("code", {}, JSON.stringify(each))]);
  if (schema.type === "array") return ["list of ", ...kind(schema.items)];
  if (Array.isArray(schema.type)) return [schema.type.join(" or ")];
  const limits = [
    schema.format,
    schema.minimum !== undefined || schema.maximum !== undefined ? `${schema.minimum ?? ""}…${schema.maximum ?? ""}` : null,
    schema.maxLength !== undefined ? `at most ${schema.maxLength} characters` : null,
    schema.default !== undefined && schema.default !== "" ? `default ${JSON.stringify(schema.default)}` : null,
  ].filter(Boolean);
  return [limits.length ? `${schema.type ?? "value"} (${limits.join(", ")})` : schema.type ?? "value"];
}

function members(schema) {
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([name, each]) => h("tr", {},
    h("th", { scope: "row" }, h("code", {}, name)),
    h("td", {}, h("span", { class: "kind" }, ...kind(each)), required.has(name) ? h("span", { class: "must" }, " required") : null),
    h("td", {}, ...prose(each.description))));
  return rows.length ? h("table", {}, ...rows) : h("p", { class: "kind" }, ...kind(schema));
}

function parameters(list, resolve) {
  if (!list?.length) return [];
  const rows = list.map(resolve).map((each) => h("tr", {},
    h("th", { scope: "row" }, h("code", {}, each.name), each.required ? h("span", { class: "must" }, " required") : null),
    h("td", { class: "kind" }, `${each.in}: `, ...kind(each.schema)),
    h("td", {}, ...prose(each.description))));
  return [h("h4", {}, "Parameters"), h("table", {}, ...rows)];
}

function content(media) {
  return Object.entries(media ?? {}).flatMap(([type, each]) => [
    h("p", { class: "kind" }, h("code", {}, type), " ", ...(each.schema?.$ref ? kind(each.schema) : [])),
    each.schema && !each.schema.$ref && each.schema.properties ? members(each.schema) : null,
    ...examples(each),
  ]).filter(Boolean);
}

function examples(media) {
  return Object.values(media.examples ?? {}).map((each) => h("details", { open: "" },
    h("summary", {}, each.summary ?? "Example"),
    h("pre", {}, h("code", {}, typeof each.value === "string" ? each.value : JSON.stringify(each.value, null, 2)))));
}

function answers(responses, resolve) {
  const rows = Object.entries(responses).map(([status, each]) => {
    const answer = resolve(each);
    const headers = Object.keys(answer.headers ?? {});
    return h("tr", {},
      h("th", { scope: "row" }, status),
      h("td", { class: "kind" }, ...Object.entries(answer.content ?? {}).flatMap(([type, media]) =>
        media.schema?.$ref ? kind(media.schema) : [h("code", {}, type)])),
      h("td", {}, ...prose(answer.description),
        ...(headers.length ? [h("span", { class: "kind" }, " Headers: ", headers.join(", "))] : [])));
  });
  const shown = Object.values(responses).flatMap((each) => Object.values(resolve(each).content ?? {})).flatMap(examples);
  return [h("h4", {}, "Answers"), h("table", {}, ...rows), ...shown];
}

function show(document_) {
  const resolve = (each) => (each?.$ref
    ? each.$ref.slice(2).split("/").reduce((place, key) => place[key], document_) : each);
  const text = [h("h1", {}, document_.info.title), h("p", { class: "soft" }, `Version ${document_.info.version}`),
    ...paragraphs(document_.info.description)];
  const contents = [];
  for (const tag of document_.tags) {
    contents.push(h("h2", {}, tag.name));
    text.push(h("h2", { id: anchor(tag.name) }, tag.name), ...paragraphs(tag.description));
    for (const [path, item] of Object.entries(document_.paths)) {
      for (const verb of VERBS) {
        const call = item[verb];
        if (!call || call.tags[0] !== tag.name) continue;
        const id = call.operationId;
        contents.push(h("a", { href: `#${id}` }, h("span", { class: `verb ${verb}` }, verb.toUpperCase()), h("span", {}, path)));
        text.push(h("section", { class: "call", id },
          h("h3", {}, h("span", { class: `verb ${verb}` }, verb.toUpperCase()), h("code", {}, path)),
          h("p", {}, ...prose(call.summary)), ...paragraphs(call.description).filter((each) => each.textContent),
          ...parameters([...(item.parameters ?? []), ...(call.parameters ?? [])], resolve),
          ...(call.requestBody ? [h("h4", {}, "Body"), ...content(resolve(call.requestBody).content)] : []),
          ...answers(call.responses, resolve)));
      }
    }
  }
  contents.push(h("h2", {}, "Schemas"));
  text.push(h("h2", { id: "schemas" }, "Schemas"));
  for (const [name, schema] of Object.entries(document_.components.schemas)) {
    const id = `schema-${anchor(name)}`;
    contents.push(h("a", { href: `#${id}` }, name));
    text.push(h("section", { class: "schema", id }, h("h3", {}, name), ...paragraphs(schema.description), members(schema)));
  }
  document.getElementById("contents").replaceChildren(...contents);
  const article = document.getElementById("text");
  article.replaceChildren(...text);
  article.removeAttribute("aria-busy");
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`The description can't be read: status ${response.status}.`);
  show(await response.json());
} catch (error) {
  document.getElementById("text").replaceChildren(h("p", {}, error.message));
}
