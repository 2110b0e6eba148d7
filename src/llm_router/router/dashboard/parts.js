// The small parts that several pages show: states, bars, sparklines, buttons, what is said in passing.

import { fill, h, mark, put, svg, vary } from "./dom.js";
import { percent } from "./format.js";
import { icon } from "./icons.js";
import { t } from "./i18n.js";

/** A node's state in a word: a drained node takes nothing new, which is more than that it is online. */
export function stateOf(node) {
  return node.settings.drain && (node.state === "online" || node.state === "suspect") ? "drained" : node.state;
}

/** A state as a dot and a word: `set(state, words)`. */
export class StateMark extends HTMLElement {
  connectedCallback() {
    this.classList.add("state");
  }

  set(state, words) {
    mark(this, "data-state", state);
    put(this, words ?? t(`state.${state}`));
  }
}

/** A labelled bar from 0 to 100: `set(value, text)`; without a value it is empty and says so. `data-plain`: full is fine. */
export class Bar extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    this.classList.add("bar");
    this.plain = "plain" in this.dataset;
    this.label = h("span", { class: "bar-label" }, this.dataset.label);
    this.text = h("span", { class: "bar-text" });
    this.meter = h("span", { class: "bar-track", role: "meter", "aria-label": this.dataset.label, "aria-valuemin": 0, "aria-valuemax": 100 }, h("span", { class: "bar-fill" }));
    this.append(this.label, this.text, this.meter);
  }

  set(value, text = percent(value ?? 0)) {
    const known = value !== null && value !== undefined;
    const level = known ? Math.min(100, Math.max(0, value)) : 0;
    put(this.text, known ? text : "–");
    mark(this.meter, "aria-valuenow", Math.round(level));
    mark(this.meter, "aria-valuetext", known ? text : t("unknown"));
    mark(this, "data-level", level >= 90 && !this.plain ? "high" : level >= 75 && !this.plain ? "warm" : "fine");
    vary(this.meter, "--level", (level / 100).toFixed(3));
  }
}

export const bar = (label) => h("lr-bar", { data: { label } });

/** The bar of a node's slots: all in use is what they are for. */
export const slotsBar = () => h("lr-bar", { data: { label: t("slots"), plain: "" } });

const WIDTH = 120;
const HEIGHT = 32;

/** A line of what was: `draw(numbers)`, without numbers none. It starts from zero, and `floor` is the least that its top stands for. */
export class Spark extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    this.classList.add("spark");
    this.area = svg("path", { class: "spark-area" });
    this.line = svg("path", { class: "spark-line", "vector-effect": "non-scaling-stroke" });
    this.append(svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.area, this.line));
  }

  draw(numbers, floor = 1) {
    if (!numbers) return this.#trace("", "");
    const top = numbers.reduce((a, b) => Math.max(a, b), floor);
    const step = WIDTH / (numbers.length - 1);
    let path = "";
    numbers.forEach((value, i) => {
      path += `${i ? "L" : "M"}${(i * step).toFixed(1)} ${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
    });
    return this.#trace(path, `${path}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
  }

  #trace(line, area) {
    mark(this.line, "d", line);
    mark(this.area, "d", area);
  }
}

/** A download: what, how far, how fast, how long still (requirement G5). */
export class ProgressRow extends HTMLElement {
  set(what, facts) {
    this.classList.add("progress");
    fill(this, what.kind + what.name, () => [
      h("span", { class: "progress-name" }, what.name),
      (this.facts = h("span", { class: "progress-facts" })),
      (this.meter = h("progress", { max: 1, "aria-label": what.name })),
    ]);
    put(this.facts, facts);
    if (what.total) this.meter.value = what.done / what.total;
    else this.meter.removeAttribute("value");
  }
}

/** A button. `kind`: "", primary, danger, quiet. */
export function button(words, press, { kind = "", sign = "", label = "", ...props } = {}) {
  const content = [sign && icon(sign), words && h("span", {}, words)];
  return h("button", { type: "button", class: `button ${kind}`, "aria-label": label || null, title: label || null, ...props, on: { click: press } }, content);
}

/** A text to take away, with a button that copies it. */
export function copyable(text, label) {
  const code = h("code", { class: "copy-text", tabindex: 0 }, text);
  const done = button(t("copy"), () => copy(text, code, done), { sign: "copy", label });
  return h("div", { class: "copyable" }, code, done);
}

async function copy(text, code, pressed) {
  try {
    await navigator.clipboard.writeText(text);
    pressed.replaceChildren(icon("check"), h("span", {}, t("copied")));
    setTimeout(() => pressed.replaceChildren(icon("copy"), h("span", {}, t("copy"))), 2000);
  } catch {
    getSelection().selectAllChildren(code); // no clipboard without TLS: the person copies what is selected
  }
}

/** A field with its label. */
export function field(label, control, hint = "") {
  return h("label", { class: "field" }, h("span", { class: "field-label" }, label), control, hint && h("span", { class: "hint" }, hint));
}

/** A search box: `change(text)` when a person has paused typing. */
export function searchBox(label, change, value = "") {
  let timer = 0;
  const input = h("input", { type: "search", placeholder: label, "aria-label": label, value, autocomplete: "off", spellcheck: "false" });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => change(input.value.trim()), 200); // ms; shorter than people notice, longer than between two keys
  });
  return h("span", { class: "search" }, icon("search"), input);
}

/** A choice: `options` are [value, words]. */
export function choice(label, options, change, value = "") {
  const select = h("select", { "aria-label": label, on: { change: () => change(select.value) } }, options.map(([v, words]) => h("option", { value: v, selected: v === value }, words)));
  return select;
}

/** Nothing is here yet: why, and what to do. */
export const empty = (title, hint, ...more) =>
  h("div", { class: "empty" }, h("h2", {}, title), hint && h("p", {}, hint), ...more);

/** Facts in pairs. */
export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

/** Said in passing, at the edge; screen readers hear it too. */
export function say(words, kind = "") {
  const toast = h("div", { class: `toast ${kind}` }, words);
  const toasts = document.querySelector(".toasts");
  const front = [...document.querySelectorAll("dialog[open]")].at(-1); // what lies behind it is neither seen nor read out
  if (front && !front.contains(toasts)) front.append(toasts);
  toasts.append(toast);
  setTimeout(() => toast.remove(), 6000); // ms; long enough to read a sentence twice
}

/** Do what a person asked for; what goes wrong is said. True: it went well. */
export async function attempt(action, done = "") {
  try {
    await action();
    if (done) say(done, "good");
    return true;
  } catch (error) {
    say(error.message, "bad");
    return false;
  }
}

customElements.define("lr-state", StateMark);
customElements.define("lr-bar", Bar);
customElements.define("lr-spark", Spark);
customElements.define("lr-progress", ProgressRow);
