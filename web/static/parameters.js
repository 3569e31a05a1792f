/** The fields of a type's parameters, made from its JSON Schema: text, number, slider, choice, switch; JSON for the rest. */

import { inWords } from "./words.js";

let made = 0;

/** Fields in `box`.  `values()` is what was filled in, without what is left at its default; `mark(errors)` shows mistakes. */
export class Parameters {
  #box;
  #fields = new Map();  // {name: {input, read, write, fault}}
  #more = {};  // members of an order that was filled in which have no field

  constructor(box) { this.#box = box; }

  show(schema) {
    const required = new Set(schema.required ?? []);
    this.#fields.clear();
    this.#more = {};
    this.#box.replaceChildren(...Object.entries(schema.properties ?? {}).map(([name, each]) => this.#field(name, each, required.has(name))));
    this.#box.hidden = !this.#fields.size;
  }

  /** Throws an Error with the name of a field whose text is no JSON. */
  values() {
    const found = { ...this.#more };
    for (const [name, { read }] of this.#fields) {
      const value = read();
      if (value !== undefined) found[name] = value;
    }
    return found;
  }

  /** Put the values of an order into the fields; what has no field is handed in as it was. */
  fill(values) {
    for (const [name, value] of Object.entries(values)) {
      const field = this.#fields.get(name);
      if (field) field.write(value);
      else this.#more[name] = value;
    }
  }

  /** Show `[{pointer, detail}]` beside their fields; whether all were. */
  mark(errors = []) {
    for (const { fault, input } of this.#fields.values()) {
      fault.hidden = true;
      input.removeAttribute("aria-invalid");
    }
    return errors.filter(({ pointer, detail }) => {
      const name = pointer.split("/").slice(1)[2]?.replaceAll("~1", "/").replaceAll("~0", "~");
      const field = pointer.startsWith("/params/parameters/") && this.#fields.get(name);
      if (!field) return true;
      field.fault.textContent = detail;
      field.fault.hidden = false;
      field.input.setAttribute("aria-invalid", "true");
      return false;
    }).length === 0;
  }

  #field(name, given, isRequired) {
    const schema = given && typeof given === "object" ? given : {}, { input, read, write, extra } = inputFor(schema);
    const label = element("label"), row = element("div", "field"), fault = element("small", "problem");
    input.id = `parameter-${made++}`;
    input.dataset.parameter = name;
    label.htmlFor = input.id;
    label.textContent = inWords(schema.title, name) + (isRequired ? " *" : "");
    fault.id = `${input.id}-fault`;
    fault.hidden = true;
    input.setAttribute("aria-describedby", fault.id);
    row.append(label, input, ...extra);
    if (schema.description) {
      const hint = element("small", "hint");
      hint.textContent = schema.description;
      row.append(hint);
    }
    row.append(fault);
    this.#fields.set(name, { input, read, write, fault });
    return row;
  }
}

/** {input, read, write, extra}: `read()` is undefined where nothing is to be sent; `extra` stands behind the input. */
function inputFor(schema) {
  if (Array.isArray(schema.enum)) return choiceOf(schema);
  if (schema.type === "boolean") return switchOf(schema);
  if (schema.type === "integer" || schema.type === "number") return numberOf(schema);
  if (schema.type === "string") return textOf(schema);
  return jsonOf(schema);
}

function choiceOf(schema) {
  const input = element("select"), hasDefault = schema.enum.includes(schema.default);
  const choices = hasDefault ? schema.enum : [undefined, ...schema.enum];
  for (const each of choices) input.add(new Option(each === undefined ? "–" : String(each)));
  input.selectedIndex = Math.max(0, choices.indexOf(schema.default));
  const read = () => choices[input.selectedIndex];
  const write = (value) => { input.selectedIndex = choices.findIndex((each) => JSON.stringify(each) === JSON.stringify(value)); };
  return { input, read: unlessDefault(schema, read), write, extra: [] };
}

function switchOf(schema) {
  const input = element("input");
  input.type = "checkbox";
  input.checked = schema.default === true;
  input.setAttribute("role", "switch");
  const read = () => (input.checked || input.dataset.touched || "default" in schema ? input.checked : undefined);
  input.addEventListener("change", () => { input.dataset.touched = "yes"; });
  const write = (value) => { Object.assign(input, { checked: value === true }).dataset.touched = "yes"; };
  return { input, read: unlessDefault(schema, read), write, extra: [] };
}

function numberOf(schema) {
  const input = element("input"), low = schema.minimum, high = schema.maximum, isWhole = schema.type === "integer";
  const isSlider = Number.isFinite(low) && Number.isFinite(high) && "default" in schema;
  input.type = isSlider ? "range" : "number";
  if (Number.isFinite(low)) input.min = low;
  if (Number.isFinite(high)) input.max = high;
  input.step = schema.multipleOf ?? (isWhole ? 1 : isSlider ? stepBetween(low, high, schema.default) : "any");
  if ("default" in schema) input.value = schema.default;
  const shown = element("output"), show = () => { shown.textContent = input.value; };
  input.addEventListener("input", show);
  show();
  const read = () => (input.value === "" ? undefined : Number(input.value));
  const write = (value) => { input.value = value; show(); };
  return { input, read: unlessDefault(schema, read), write, extra: isSlider ? [shown] : [] };
}

/** A power of ten that gives at least twenty places; any place where the default is none of these: it is not to be moved. */
function stepBetween(low, high, usual) {
  const step = 10 ** Math.floor(Math.log10((high - low) / 20)), places = (usual - low) / step;
  return step > 0 && Math.abs(places - Math.round(places)) < 1e-6 ? step : "any";
}

function textOf(schema) {
  const input = element((schema.maxLength ?? 0) > 200 ? "textarea" : "input");
  if (schema.maxLength) input.maxLength = schema.maxLength;
  input.value = schema.default ?? "";
  const read = () => (input.value === "" && !("default" in schema) ? undefined : input.value);
  const write = (value) => { input.value = value; };
  return { input, read: unlessDefault(schema, read), write, extra: [] };
}

function jsonOf(schema) {
  const input = element("textarea");
  input.placeholder = schema.type === "array" ? "[…]" : "{…}";
  input.value = "default" in schema ? JSON.stringify(schema.default) : "";
  const read = () => {
    if (input.value.trim() === "") return undefined;
    try {
      return JSON.parse(input.value);
    } catch {
      throw Object.assign(new Error(input.dataset.parameter), { isNoJson: true });
    }
  };
  const write = (value) => { input.value = JSON.stringify(value, null, 1); };
  return { input, read: unlessDefault(schema, read), write, extra: [] };
}

/** Defaults are the server's: what is left at them is not sent. */
function unlessDefault(schema, read) {
  const kept = JSON.stringify(schema.default);
  return () => {
    const value = read();
    return kept !== undefined && JSON.stringify(value) === kept ? undefined : value;
  };
}

function element(name, className = "") {
  const made = document.createElement(name);
  made.className = className;
  return made;
}
