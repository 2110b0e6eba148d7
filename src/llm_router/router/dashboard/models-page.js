// Models: the catalogue, which models can be asked for and where each is, and what is on its way.

import { nodes as nodesApi } from "./api.js";
import { addModel } from "./add-model.js";
import { catalogue } from "./catalogue.js";
import { fill, h, mark, put, show } from "./dom.js";
import { byName, count } from "./format.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { addNode } from "./join.js";
import { placesOf, upOf, whereIs } from "./model-facts.js";
import { openModel } from "./model-pane.js";
import * as say from "./node-facts.js";
import { openNode } from "./node-drawer.js";
import { attempt, button, empty, searchBox } from "./parts.js";
import { watchPulls } from "./pulls.js";
import { store } from "./store.js";
import "./model-card.js";

const PLACES = 8; // nodes that a row names
const SHOWN = 300; // models in the page, of each kind; a search finds the others

export class ModelsPage extends HTMLElement {
  connectedCallback() {
    this.text = "";
    this.cards = new Map();
    this.total = h("span", { class: "hint" });
    const search = searchBox(t("search.models"), (text) => this.#narrow(text.toLowerCase()));
    this.append(h("div", { class: "toolbar" }, search, this.total, h("span", { class: "spacer" }), addModel()), this.#running(), this.#catalogue(), this.#table());
    const news = () => this.#draw();
    this.unwatch = [store.watch("nodes", news), store.watch("rates", news), catalogue.watch(news), watchPulls(news)];
    this.#draw();
  }

  disconnectedCallback() {
    for (const stop of this.unwatch) stop();
  }

  /** `#/models/<name>` opens a model's pane. */
  go(name) {
    if (name) openModel(name);
  }

  #running() {
    this.progress = h("section", { class: "card", "aria-label": t("downloads") });
    return this.progress;
  }

  #catalogue() {
    this.list = h("div", { class: "cards", role: "list" });
    this.listNone = empty(t("no.catalogue"), t("no.catalogue.hint"), h("p", {}, addModel()));
    this.listProblem = h("p", { class: "error-text" });
    return h("section", { class: "stack models-catalogue" }, h("h2", {}, t("catalogue")), this.listProblem, this.list, this.listNone);
  }

  #table() {
    this.body = h("tbody");
    const heads = HEADS.map(([name, kind]) => h("th", { scope: "col", class: kind }, t(name)));
    this.table = h("table", { class: "table models-table" }, h("caption", { class: "visually-hidden" }, t("on.nodes")), h("thead", {}, h("tr", {}, heads, h("th", { scope: "col", class: "c-try" }, h("span", { class: "visually-hidden" }, t("page.try"))))), this.body);
    this.none = empty(t("no.models.yet"), t("no.models.hint"), h("p", {}, addNode()));
    return h("section", { class: "stack" }, h("h2", {}, t("on.nodes")), this.table, this.none);
  }

  #narrow(text) {
    this.text = text;
    this.#draw();
  }

  #draw() {
    const places = placesOf(store.nodes.values());
    this.#drawProgress(places);
    this.#drawCatalogue(places);
    this.#drawTable(places);
  }

  #drawCatalogue(places) {
    const { entries, known, problem } = catalogue;
    const wanted = [...entries.values()].filter((entry) => this.#fits(entry.name, entry.display_name)).sort((a, b) => byName(titleOf(a), titleOf(b))).slice(0, SHOWN);
    const names = wanted.map(({ name }) => name);
    for (const name of names) if (!this.cards.has(name)) this.cards.set(name, h("lr-model-card"));
    for (const name of this.cards.keys()) if (!entries.has(name)) this.cards.delete(name);
    fill(this.list, names, () => names.map((name) => this.cards.get(name)));
    for (const entry of wanted) this.cards.get(entry.name).update(entry, whereIs(entry.name, places));
    put(this.listProblem, problem);
    show(this.listProblem, problem !== "");
    show(this.list, names.length > 0);
    show(this.listNone, known && !problem && entries.size === 0);
  }

  #drawTable(places) {
    const all = [...places].filter(([, at]) => at.held.length || at.offered.length);
    const found = all.filter(([model]) => this.#fits(model)).sort((a, b) => byName(a[0], b[0]));
    put(this.total, t("models.n", { n: all.length, count: count(all.length) }));
    show(this.table, found.length > 0);
    show(this.none, all.length === 0);
    mark(this.table, "data-excluded", found.some(([, at]) => at.excluded.length > 0));
    const rows = found.slice(0, SHOWN);
    fill(this.body, rows.map(([model, at]) => [model, keyOf(at), waiting(model)]), () => rows.map(([model, at]) => row(model, at)));
  }

  #fits(...words) {
    return words.some((word) => word.toLowerCase().includes(this.text));
  }

  /** What nodes fetch: runtimes, and models that no card of the catalogue tells of. */
  #drawProgress(places) {
    const runtimes = [...store.nodes.values()].flatMap((node) => node.progress.filter(({ kind }) => kind === "runtime").map((what) => ({ node, what })));
    const models = [...places].filter(([model]) => !catalogue.entries.has(model)).flatMap(([, { fetching }]) => fetching);
    const under = [...runtimes, ...models];
    show(this.progress, under.length > 0);
    fill(this.progress, under.map(({ node, what }) => [node.id, what.kind, what.name]), () => [
      h("h2", { class: "card-title" }, t("downloads")),
      under.map(({ node }) => h("div", { class: "download" }, h("span", { class: "hint" }, node.name), h("lr-progress"))),
    ]);
    this.progress.querySelectorAll("lr-progress").forEach((bar, i) => bar.set(under[i].what, say.progressText(under[i].what)));
  }
}

const HEADS = [["model", "c-model"], ["nodes", "c-num"], ["loaded.on", "c-loaded"], ["excluded.on", "c-excluded"], ["waiting", "c-num c-last"]];
const titleOf = (entry) => entry.display_name || entry.name;
const waiting = (model) => store.rates.queued?.[model] ?? 0;
const keyOf = (at) => [upOf(at.held).length, at.held.length, upOf(at.offered).length, ...[at.loaded, at.excluded].map((list) => list.slice(0, PLACES + 1).map(({ node }) => node.name)), at.loaded.length];

function row(model, at) {
  const name = h("button", { type: "button", class: "link model-link", on: { click: () => openModel(model) } }, model);
  const ask = h("a", { class: "button quiet small", href: `#/try/${encodeURIComponent(model)}`, title: t("try.it.with", { model }), "aria-label": t("try.it.with", { model }) }, icon("try"));
  const first = at.held.length ? null : h("span", { class: "row-note" }, icon("download"), t("fetched.first"));
  return h(
    "tr",
    {},
    h("th", { scope: "row", class: "c-model" }, name, first),
    h("td", { class: "c-num" }, held(at)),
    h("td", { class: "c-loaded" }, chips(at.loaded, loadedChip)),
    h("td", { class: "c-excluded" }, chips(at.excluded, (place) => excludedChip(model, place))),
    h("td", { class: "c-num c-last" }, waiting(model) ? count(waiting(model)) : "–"),
    h("td", { class: "c-try" }, ask),
  );
}

/** "3", "2 / 3" where some are not up, and how many more could fetch it. */
function held(at) {
  const up = upOf(at.held).length;
  const could = upOf(at.offered).length;
  const words = up === at.held.length ? count(up) : `${count(up)} / ${count(at.held.length)}`;
  return [h("span", {}, words), could > 0 && h("span", { class: "row-sub" }, t("could.n", { n: could, count: count(could) }))];
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
