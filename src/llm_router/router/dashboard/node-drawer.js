// The pane of one node: all its facts, what can be set, what can be done with it (requirements F1, F3).

import { nodes } from "./api.js";
import { chip } from "./chips.js";
import { confirmed, open } from "./dialogs.js";
import { fill, h, put, show } from "./dom.js";
import { count, fully, memoryOf, percent, span } from "./format.js";
import { t, tOr } from "./i18n.js";
import * as say from "./node-facts.js";
import { attempt, bar, button, facts, field, slotsBar, stateOf } from "./parts.js";
import { store } from "./store.js";

/** Open the pane. */
export function openNode(id) {
  const node = store.nodes.get(id);
  if (!node) return;
  const pane = h("lr-node-pane");
  pane.node = node;
  const dialog = open("drawer", node.name, pane);
  pane.dialog = dialog;
}

/** Let a node in that waits for it. */
export const approve = (node) => attempt(() => nodes.approve(node.id), t("approved", { name: node.name }));

export class NodePane extends HTMLElement {
  connectedCallback() {
    this.state = h("lr-state");
    this.actions = h("div", { class: "buttons" });
    this.live = h("div", { class: "stack" });
    this.exclusions = h("section");
    this.models = h("section");
    this.progress = h("section", { class: "progresses" });
    this.bars = { slots: slotsBar(), cpu: bar(t("cpu")), memory: bar(t("memory")) };
    this.gpus = h("div", { class: "bars whole" });
    const bars = h("div", { class: "bars three" }, Object.values(this.bars));
    this.append(h("div", { class: "card-line" }, this.state, this.actions), this.progress, bars, this.gpus, this.live, this.exclusions, this.models, this.#settings());
    this.unwatch = store.watch("nodes", () => this.#news());
    this.update(this.node);
  }

  disconnectedCallback() {
    this.unwatch();
  }

  #news() {
    const node = store.nodes.get(this.node.id);
    if (node) this.update(node);
    else this.dialog.close();
  }

  update(node) {
    this.node = node;
    const state = stateOf(node);
    this.state.set(state);
    put(this.closest("dialog").querySelector(".dialog-title"), node.name);
    this.#updateBars(node);
    fill(this.actions, [state, node.settings.drain], () => this.#buttons(state));
    fill(this.progress, node.progress.map((p) => p.kind + p.name), () => node.progress.map(() => h("lr-progress")));
    node.progress.forEach((what, i) => this.progress.children[i].set(what, say.progressText(what)));
    show(this.progress, node.progress.length > 0);
    fill(this.live, this.#pairs(node), () => facts(this.#pairs(node)));
    fill(this.exclusions, node.exclusions, () => this.#exclusions(node));
    show(this.exclusions, node.exclusions.length > 0);
    fill(this.models, [node.models, node.loaded, node.excluded, node.offered], () => modelList(node));
  }

  #updateBars(node) {
    const agent = node.kind === "agent";
    this.bars.slots.set(say.loadOf(node), `${count(node.in_flight)} / ${count(node.slots)}`);
    this.bars.cpu.set(agent ? node.cpu : null);
    this.bars.memory.set(agent ? node.memory : null);
    fill(this.gpus, node.gpus.map((gpu) => gpu.name), () => node.gpus.map((gpu) => bar(gpu.name)));
    node.gpus.forEach((gpu, i) => this.gpus.children[i].set(gpu.utilization, gpuLine(gpu)));
    show(this.gpus, node.gpus.length > 0);
  }

  #pairs(node) {
    return [
      [t("machine"), node.machine || node.name],
      [t("address"), node.url],
      [t("runtime"), say.runtimesOf(node) || "–"],
      [t("backend"), tOr(`backend.${node.backend}`, node.backend)],
      node.os && [t("os"), node.os],
      node.version && [t("version"), node.version],
      [say.isUp(node) ? t("uptime") : t("last.seen"), say.lastingOf(node)],
      [t("in.flight"), count(node.in_flight)],
      [t("done"), count(node.done)],
      [t("errors"), count(node.failed)],
      [t("latency"), say.latencyOf(node)],
      ...node.gpus.filter((gpu) => gpu.driver).slice(0, 1).map((gpu) => [t("driver"), gpu.driver]),
      ["ID", node.id],
    ].filter(Boolean);
  }

  #buttons(state) {
    const { node } = this;
    const drained = node.settings.drain;
    const drain = () => attempt(() => nodes.change(node.id, { drain: !drained }));
    return [
      state === "pending" && button(t("approve"), () => approve(node), { kind: "primary" }),
      state !== "pending" && button(t(drained ? "undrain" : "drain"), drain, { label: t(drained ? "undrain.hint" : "drain.hint") }),
      button(t("remove"), () => this.#remove(), { kind: "danger" }),
    ];
  }

  async #remove() {
    const hint = t(this.node.kind === "agent" ? "remove.agent" : "remove.attached");
    if (!(await confirmed(t("remove.title", { name: this.node.name }), hint, t("remove")))) return;
    if (await attempt(() => nodes.remove(this.node.id))) this.dialog.close();
  }

  #exclusions(node) {
    const row = (e) => {
      const left = span(Math.max(1, e.until - store.now()));
      const lift = button(t("lift"), () => attempt(() => nodes.lift(node.id, e.model), t("lifted", { name: e.model })));
      return h("li", {}, h("div", {}, h("strong", {}, e.model), h("p", { class: "reason" }, e.reason), h("p", { class: "hint", title: fully(e.since) }, t("retry.in", { time: left }))), lift);
    };
    return [h("h3", {}, t("excluded.title")), h("ul", { class: "list" }, node.exclusions.map(row))];
  }

  #settings() {
    const { settings } = this.node;
    const name = h("input", { name: "name", maxlength: 100, placeholder: this.node.machine || this.node.name, value: settings.name, autocomplete: "off" });
    const tags = h("input", { name: "tags", value: settings.tags.join(", "), autocomplete: "off" });
    const notes = h("textarea", { name: "notes", maxlength: 2000, rows: 3, value: settings.notes });
    const save = async (event) => {
      event.preventDefault();
      const list = tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
      await attempt(() => nodes.change(this.node.id, { name: name.value, tags: list, notes: notes.value }), t("saved"));
    };
    return h(
      "form",
      { class: "stack", on: { submit: save } },
      h("h3", {}, t("settings")),
      field(t("display.name"), name, t("display.name.hint")),
      field(t("tags"), tags, t("tags.hint")),
      field(t("notes"), notes),
      h("div", { class: "buttons" }, h("button", { class: "button primary" }, t("save"))),
    );
  }
}

function gpuLine(gpu) {
  const parts = [percent(gpu.utilization), gpu.memory_total && memoryOf(gpu.memory_used, gpu.memory_total), gpu.temperature && `${count(gpu.temperature)} °C`];
  return parts.filter(Boolean).join(" · ");
}

function modelList(node) {
  const held = say.heldBy(node);
  const chips = (models) => h("ul", { class: "chips" }, models.map((model) => chip(model, node)));
  const none = h("p", { class: "hint" }, t("no.models"));
  return [
    h("h3", {}, t("models.n", { n: held.length })),
    held.length ? chips(held) : none,
    node.offered.length > 0 && [h("h3", { class: "next" }, t("offered.title")), chips(node.offered)],
  ];
}

customElements.define("lr-node-pane", NodePane);
