// The pane of one model: what it is, on which nodes it lies, and what can be done with it (requirement F3).

import { models } from "./api.js";
import { catalogue } from "./catalogue.js";
import { confirmed, open } from "./dialogs.js";
import { fill, h, put, show } from "./dom.js";
import { byName, bytes, count, day, memory } from "./format.js";
import { t } from "./i18n.js";
import * as facts from "./model-facts.js";
import { openNode } from "./node-drawer.js";
import { isUp, progressText } from "./node-facts.js";
import { attempt, button, choice, facts as pairs, field } from "./parts.js";
import { dismiss, pull, watchPulls } from "./pulls.js";
import { store } from "./store.js";
import "./placement.js";

const SHOWN = 100; // nodes with it that are listed

/** Open the pane. */
export function openModel(name) {
  const pane = h("lr-model-pane");
  pane.model = name;
  pane.dialog = open("drawer", catalogue.entries.get(name)?.display_name || name, pane);
  return pane.dialog;
}

export class ModelPane extends HTMLElement {
  connectedCallback() {
    this.state = h("lr-state");
    this.actions = h("div", { class: "buttons" });
    this.facts = h("div");
    this.places = h("section", { class: "stack tight" });
    this.fetch = h("section");
    this.settings = h("section");
    this.append(h("div", { class: "card-line" }, this.state, this.actions), this.facts, this.places, this.fetch, this.settings);
    const news = () => this.update();
    this.unwatch = [store.watch("nodes", news), catalogue.watch(news), watchPulls(news)];
    this.update();
  }

  disconnectedCallback() {
    for (const stop of this.unwatch) stop();
  }

  update() {
    const entry = catalogue.entries.get(this.model);
    const at = facts.whereIs(this.model);
    const state = facts.stateOfModel(at);
    this.state.set(state, t(`model.state.${state}`));
    put(this.closest("dialog").querySelector(".dialog-title"), entry?.display_name || this.model);
    fill(this.actions, [state, !!entry], () => this.#buttons(state, entry));
    fill(this.facts, [entry ?? ""], () => (entry ? pairs(factsOf(entry)) : h("p", { class: "hint" }, t("not.in.catalogue"))));
    this.#places(entry, at);
    this.#fetch(entry, at);
    fill(this.settings, [entry?.placement ?? "", entry?.display_name ?? ""], () => (entry ? [this.#settings(entry)] : []));
    show(this.settings, !!entry);
  }

  #buttons(state, entry) {
    const ask = () => {
      this.dialog.close();
      location.hash = `#/try/${encodeURIComponent(this.model)}`;
    };
    return [
      state !== "nowhere" && button(t("page.try"), ask, { sign: "try" }),
      entry && button(t("remove"), () => this.#remove(), { kind: "danger", label: t("remove.from.catalogue") }),
    ];
  }

  // -- where it is

  #places(entry, at) {
    const rows = rowsOf(at);
    const key = rows.map(({ node, how, problem }) => [node.id, node.name, node.state, how, problem]);
    fill(this.places, [!!entry, key], () => [
      h("h3", {}, t("nodes.of.model")),
      rows.length ? h("ul", { class: "list" }, rows.slice(0, SHOWN).map((row) => this.#row(row))) : h("p", { class: "hint" }, t(at.offered.length ? "on.no.node" : "for.no.node")),
      rows.length > SHOWN && h("p", { class: "hint" }, `+${count(rows.length - SHOWN)}`),
    ]);
    const bars = this.places.querySelectorAll("lr-progress");
    at.fetching.slice(0, bars.length).forEach(({ what }, i) => bars[i].set({ ...what, name: t("model.at.fetching") }, progressText(what)));
  }

  #row({ node, how, problem }) {
    const { model } = this;
    const name = h("button", { type: "button", class: "link row-name", on: { click: () => (this.dialog.close(), openNode(node.id)) } }, node.name);
    const state = h("span", { class: `place ${how}` }, isUp(node) ? t(`model.at.${how}`) : t(`state.${node.state}`));
    const erase = () => isUp(node) && button(t("delete"), () => this.#erase(node), { kind: "small danger", label: t("delete.from", { model, node: node.name }) });
    const forget = () => button("", () => dismiss(model, node.id), { kind: "small quiet", sign: "close", label: t("dismiss") });
    const act = { loaded: erase, stored: erase, failed: forget }[how];
    const more = how === "fetching" ? h("lr-progress") : how === "failed" ? h("p", { class: "error-text" }, problem) : null;
    return h("li", { class: "place-row" }, name, how === "fetching" ? null : state, act?.(), more);
  }

  async #erase(node) {
    const { model } = this;
    const placement = catalogue.entries.get(model)?.placement;
    const hint = placement && facts.isStanding(placement) ? h("p", { class: "hint" }, t("delete.standing")) : null;
    if (!(await confirmed(t("delete.title", { model, node: node.name }), t("delete.hint"), t("delete"), hint))) return;
    await attempt(() => models.erase(model, node.id), t("deleted", { model, node: node.name }));
  }

  // -- a node is to have it

  #fetch(entry, at) {
    const nodes = candidates(entry, at);
    fill(this.fetch, nodes.map(({ id, name }) => [id, name]), () => (nodes.length ? [this.#pullForm(nodes)] : []));
    show(this.fetch, nodes.length > 0);
  }

  #pullForm(nodes) {
    const chosen = this.fetch.querySelector("select")?.value; // the list changes under a person's hands, what was chosen does not
    const select = choice(t("pull.to"), nodes.map(({ id, name }) => [id, name]), () => {}, chosen);
    const submit = (event) => {
      event.preventDefault();
      const node = store.nodes.get(select.value);
      if (node) pull(this.model, node);
    };
    return h("form", { class: "inline-form", on: { submit } }, field(t("pull.to"), select, t("pull.hint")), h("button", { class: "button" }, t("pull")));
  }

  // -- what the catalogue says of it

  #settings(entry) {
    const title = h("input", { maxlength: 100, value: entry.display_name, placeholder: entry.name, autocomplete: "off" });
    const placement = h("lr-placement");
    placement.placement = entry.placement;
    const save = async (event) => {
      event.preventDefault();
      const fields = { placement: placement.value, display_name: title.value.trim() };
      if (await attempt(() => models.change(entry.name, fields), t("saved"))) await catalogue.read();
    };
    return h(
      "form",
      { class: "stack", on: { submit: save } },
      h("h3", {}, t("settings")),
      field(t("display.name"), title),
      placement,
      h("div", { class: "buttons" }, h("button", { class: "button primary" }, t("save"))),
    );
  }

  async #remove() {
    const files = h("input", { type: "checkbox" });
    const more = h("label", { class: "tick" }, files, h("span", {}, h("span", { class: "tick-words" }, t("remove.files")), h("span", { class: "hint" }, t("remove.files.hint"))));
    if (!(await confirmed(t("remove.model.title", { model: this.model }), t("remove.model.hint"), t("remove"), more))) return;
    if (!(await attempt(() => models.remove(this.model, files.checked), t("model.removed", { name: this.model })))) return;
    this.dialog.close();
    await catalogue.read();
  }
}

function factsOf(entry) {
  return [
    [t("name"), entry.name],
    [t("format"), facts.formatOf(entry)],
    [t("size"), entry.size ? bytes(entry.size) : "–"],
    [t("memory.needed"), entry.memory ? memory(entry.memory) : "–"],
    entry.parameters > 0 && [t("parameters"), amount(entry.parameters)],
    entry.context > 0 && [t("context"), t("tokens.n", { n: entry.context, count: count(entry.context) })],
    entry.architectures.length > 0 && [t("architecture"), entry.architectures.join(", ")],
    [t("files"), count(entry.files.length)],
    [t("added"), day(entry.created)],
    [t("placement"), facts.placementText(entry.placement)],
    entry.url && [t("origin"), link(entry.url)],
  ].filter(Boolean);
}

/** Where it comes from, to be looked at; only of the web: an address may be of another kind. */
const link = (url) => (/^https?:\/\//.test(url) ? h("a", { href: url, target: "_blank", rel: "noreferrer" }, url.replace(/^https?:\/\//, "")) : url);

/** 8.2B: parameters, as models are called by them everywhere. */
const amount = (value) => (value >= 1e9 ? `${(value / 1e9).toFixed(1)}B` : `${Math.round(value / 1e6)}M`);

/** A line for each node with it, by how near it is: in memory, stored, on its way, failed. */
function rowsOf(at) {
  const loaded = new Set(at.loaded.map(({ node }) => node.id));
  const rows = [
    ...at.fetching.map(({ node }) => ({ node, how: "fetching" })),
    ...at.failed.map(({ node, problem }) => ({ node, how: "failed", problem })),
    ...at.loaded.map(({ node }) => ({ node, how: "loaded" })),
    ...at.held.filter(({ node }) => !loaded.has(node.id)).map(({ node }) => ({ node, how: "stored" })),
  ];
  const busy = new Set([...at.fetching, ...at.failed].map(({ node }) => node.id));
  return rows.filter(({ node, how }) => how === "fetching" || how === "failed" || !busy.has(node.id));
}

/** The nodes that could fetch it: those that the catalogue's model fits, else those with an Ollama, which has a library. */
function candidates(entry, at) {
  const not = new Set([...at.held, ...at.fetching].map(({ node }) => node.id));
  const could = entry ? at.offered.map(({ node }) => node) : [...store.nodes.values()].filter(hasOllama);
  return could.filter((node) => isUp(node) && !not.has(node.id)).sort((a, b) => byName(a.name, b.name));
}

const hasOllama = (node) => node.kind === "ollama" || node.runtimes.some(({ kind }) => kind === "ollama");

customElements.define("lr-model-pane", ModelPane);
