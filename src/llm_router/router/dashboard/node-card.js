// A node as a card, for fleets that one can see at a glance.

import { chip } from "./chips.js";
import { fill, h, mark, put, show } from "./dom.js";
import { brief, count, rate } from "./format.js";
import { t } from "./i18n.js";
import * as say from "./node-facts.js";
import { approve, openNode } from "./node-drawer.js";
import { bar, button, slotsBar, stateOf } from "./parts.js";
import { store } from "./store.js";

const MODELS = 4; // that a card names; the pane has them all

export class NodeCard extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    this.classList.add("card", "node-card");
    this.setAttribute("role", "listitem");
    this.append(this.#head(), this.#bars(), this.#work(), this.#more());
  }

  #head() {
    this.state = h("lr-state");
    this.name = h("button", { type: "button", class: "card-open", on: { click: () => openNode(this.node.id) } });
    this.tags = h("span", { class: "tags" });
    this.address = h("div", { class: "card-sub" });
    this.runtimes = h("div", { class: "card-sub" });
    const title = h("h2", { class: "card-title" }, this.name);
    return h("header", { class: "card-head" }, h("div", { class: "card-line" }, title, this.state), this.address, this.runtimes, this.tags);
  }

  #bars() {
    this.slots = slotsBar();
    this.cpu = bar(t("cpu"));
    this.memory = bar(t("memory"));
    this.gpu = bar(t("gpu"));
    this.bars = h("div", { class: "bars" }, this.slots, this.gpu, this.cpu, this.memory);
    return this.bars;
  }

  #work() {
    this.spark = h("lr-spark");
    this.rate = h("span", { class: "spark-now" });
    this.done = h("dd");
    this.failed = h("dd");
    this.latency = h("dd");
    this.uptime = h("dd");
    const fact = (name, value) => h("div", {}, h("dt", {}, t(name)), value);
    const numbers = [fact("done", this.done), fact("errors", this.failed), fact("latency", this.latency), fact("uptime", this.uptime)];
    this.work = h("div", { class: "work" }, h("div", { class: "spark-box" }, this.spark, this.rate), h("dl", { class: "numbers" }, numbers));
    return this.work;
  }

  #more() {
    this.approval = h("div", { class: "approval" }, h("p", {}, t("pending.hint")), button(t("approve"), () => approve(this.node), { kind: "primary" }));
    this.progress = h("div", { class: "progresses" });
    this.models = h("ul", { class: "chips", "aria-label": t("models") });
    return h("div", { class: "card-more" }, this.approval, this.progress, this.models);
  }

  update(node) {
    this.node = node;
    const state = stateOf(node);
    mark(this, "data-state", state);
    put(this.name, node.name);
    this.state.set(state);
    put(this.address, [say.addressOf(node), node.local && t("local")].filter(Boolean).join(" · "));
    put(this.runtimes, [say.runtimesOf(node), node.os].filter(Boolean).join(" · "));
    fill(this.tags, node.settings.tags, () => node.settings.tags.map((tag) => h("span", { class: "tag" }, tag)));
    show(this.tags, node.settings.tags.length > 0);
    this.#updateBars(node);
    this.#updateWork(node);
    this.#updateMore(node, state);
  }

  #updateBars(node) {
    const gpu = say.gpuOf(node);
    const agent = node.kind === "agent";
    this.slots.set(say.loadOf(node), `${count(node.in_flight)} / ${count(node.slots)}`);
    this.cpu.set(agent ? node.cpu : null);
    this.memory.set(agent ? node.memory : null);
    this.gpu.set(gpu && gpu.utilization, gpu ? say.gpuText(gpu) : "");
  }

  #updateWork(node) {
    const history = store.byNode.get(node.id);
    if (history) this.spark.draw(history.requests, 0.5);
    put(this.rate, t("per.second", { rate: rate(history ? history.requests.at(-1) : 0) }));
    put(this.done, brief(node.done));
    put(this.failed, brief(node.failed));
    mark(this.failed, "data-bad", node.failed > 0);
    put(this.latency, say.latencyOf(node));
    put(this.uptime, say.lastingOf(node));
  }

  #updateMore(node, state) {
    show(this.approval, state === "pending");
    show(this.work, state !== "pending");
    show(this.bars, state !== "pending");
    fill(this.progress, node.progress.map((p) => p.kind + p.name), () => node.progress.map(() => h("lr-progress")));
    node.progress.forEach((what, i) => this.progress.children[i].set(what, say.progressText(what)));
    show(this.progress, node.progress.length > 0);
    show(this.models, node.models.length > 0);
    fill(this.models, [node.models, node.loaded, node.excluded, node.offered], () => chips(node));
  }
}

/** The loaded ones first, then those that are excluded, for they are what one looks for; last what it does not have yet. */
function chips(node) {
  const loaded = new Set(node.loaded);
  const excluded = new Set(node.excluded);
  const offered = new Set(node.offered);
  const weight = (model) => (loaded.has(model) ? 0 : excluded.has(model) ? 1 : offered.has(model) ? 3 : 2);
  const sorted = [...node.models].sort((a, b) => weight(a) - weight(b));
  const shown = sorted.slice(0, MODELS).map((model) => chip(model, node));
  const rest = sorted.length - MODELS;
  return rest > 0 ? [...shown, h("li", { class: "chip more" }, `+${count(rest)}`)] : shown;
}

customElements.define("lr-node-card", NodeCard);
