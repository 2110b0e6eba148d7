// Models: which of them can be asked for, where each is, and what is on its way.

import { nodes as nodesApi } from "./api.js";
import { fill, h, show } from "./dom.js";
import { byName, count } from "./format.js";
import { t } from "./i18n.js";
import * as say from "./node-facts.js";
import { openNode } from "./node-drawer.js";
import { attempt, button, empty, searchBox } from "./parts.js";
import { addNode } from "./join.js";
import { store } from "./store.js";

const PLACES = 8; // nodes that a row names
const SHOWN = 300; // models in the page; a search finds the others

export class ModelsPage extends HTMLElement {
  connectedCallback() {
    this.text = "";
    this.total = h("span", { class: "hint" });
    this.progress = h("section", { class: "card", "aria-label": t("downloads") });
    this.body = h("tbody");
    const heads = ["model", "nodes", "loaded.on", "excluded.on", "waiting"].map((name, i) => h("th", { scope: "col", class: HEADS[i] }, t(name)));
    this.table = h("table", { class: "table models-table" }, h("caption", { class: "visually-hidden" }, t("page.models")), h("thead", {}, h("tr", {}, heads)), this.body);
    this.none = empty(t("no.models.yet"), t("no.models.hint"), h("p", {}, addNode()));
    const tools = h("div", { class: "toolbar" }, searchBox(t("search.models"), (text) => this.#narrow(text.toLowerCase())), this.total);
    this.append(tools, this.progress, this.table, this.none);
    this.unwatch = [store.watch("nodes", () => this.#draw()), store.watch("rates", () => this.#draw())];
    this.#draw();
  }

  disconnectedCallback() {
    for (const stop of this.unwatch) stop();
  }

  #narrow(text) {
    this.text = text;
    this.#draw();
  }

  #draw() {
    const all = places([...store.nodes.values()]);
    const found = [...all].filter(([model]) => model.toLowerCase().includes(this.text)).sort((a, b) => byName(a[0], b[0]));
    this.total.textContent = t("models.n", { n: all.size, count: count(all.size) });
    show(this.table, found.length > 0);
    show(this.none, all.size === 0);
    const rows = found.slice(0, SHOWN);
    fill(this.body, rows.map(([model, at]) => [model, keyOf(at), waiting(model)]), () => rows.map(([model, at]) => row(model, at)));
    this.#progress();
  }

  #progress() {
    const under = [...store.nodes.values()].flatMap((node) => node.progress.map((what) => ({ node, what })));
    show(this.progress, under.length > 0);
    fill(this.progress, under.map(({ node, what }) => [node.id, what.kind, what.name]), () => [
      h("h2", { class: "card-title" }, t("downloads")),
      under.map(({ node }) => h("div", { class: "download" }, h("span", { class: "hint" }, node.name), h("lr-progress"))),
    ]);
    this.progress.querySelectorAll("lr-progress").forEach((bar, i) => bar.set(under[i].what, say.progressText(under[i].what)));
  }
}

const HEADS = ["c-model", "c-num", "", "", "c-num c-last"];
const waiting = (model) => store.rates.queued?.[model] ?? 0;
const keyOf = (at) => [at.up, at.all, ...[at.loaded, at.excluded].map((list) => list.slice(0, PLACES + 1).map(({ node }) => node.name)), at.loaded.length];

/** model -> {up, all, loaded, excluded}: how many nodes have it and are up, and where it is how. */
function places(nodes) {
  const found = new Map();
  for (const node of nodes) {
    const loaded = new Set(node.loaded);
    const excluded = new Map(node.exclusions.map((e) => [e.model, e]));
    for (const model of node.models) {
      const at = found.get(model) ?? { up: 0, all: 0, loaded: [], excluded: [] };
      found.set(model, at);
      at.all += 1;
      at.up += say.isUp(node) ? 1 : 0;
      if (loaded.has(model) && say.isUp(node)) at.loaded.push({ node });
      if (excluded.has(model)) at.excluded.push({ node, why: excluded.get(model) });
    }
  }
  return found;
}

function row(model, at) {
  const ask = h("a", { class: "model-link", href: `#/try/${encodeURIComponent(model)}`, title: t("try.it.with", { model }) }, model);
  return h(
    "tr",
    {},
    h("th", { scope: "row", class: "c-model" }, ask),
    h("td", { class: "c-num" }, at.up === at.all ? count(at.all) : `${count(at.up)} / ${count(at.all)}`),
    h("td", {}, chips(at.loaded, loadedChip)),
    h("td", {}, chips(at.excluded, (place) => excludedChip(model, place))),
    h("td", { class: "c-num c-last" }, waiting(model) ? count(waiting(model)) : "–"),
  );
}

function chips(list, chipOf) {
  if (!list.length) return h("span", { class: "hint" }, "–");
  const rest = list.length - PLACES;
  return h("ul", { class: "chips" }, list.slice(0, PLACES).map(chipOf), rest > 0 && h("li", { class: "chip more" }, `+${count(rest)}`));
}

const nodeButton = (node) => h("button", { type: "button", class: "chip-name link", on: { click: () => openNode(node.id) } }, node.name);

const loadedChip = ({ node }) => h("li", { class: "chip loaded" }, nodeButton(node));

function excludedChip(model, { node, why }) {
  const lift = () => attempt(() => nodesApi.lift(node.id, model), t("lifted", { name: model }));
  return h(
    "li",
    { class: "exclusion" },
    h("span", { class: "chip excluded" }, nodeButton(node)),
    h("span", { class: "reason" }, why.reason),
    button(t("lift"), lift, { kind: "small", label: t("lift.on", { model, node: node.name }) }),
  );
}

customElements.define("lr-models-page", ModelsPage);
