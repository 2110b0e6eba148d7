// Fleet: the whole at the top, every node below, as cards or as rows.

import { fill, h, put, show, vary } from "./dom.js";
import { brief, byName, count, rate } from "./format.js";
import { t } from "./i18n.js";
import { addNode, joinCommand } from "./join.js";
import { recall, remember } from "./memory.js";
import * as say from "./node-facts.js";
import { openNode } from "./node-drawer.js";
import { button, choice, empty, searchBox, stateOf } from "./parts.js";
import { store } from "./store.js";
import "./node-card.js";
import "./node-table.js";

const CARDS = 24; // more than these are rows unless somebody wants cards
const CARDS_AT_MOST = 200; // cards are all in the page at once

export class FleetPage extends HTMLElement {
  connectedCallback() {
    this.cards = new Map();
    this.text = "";
    this.state = "";
    this.view = recall("view", ["cards", "rows"]);
    this.append(this.#summary(), this.#toolbar(), this.#list());
    this.unwatch = [
      store.watch("nodes", (ids) => this.#news(new Set(ids))),
      store.watch("rates", () => this.#rates()),
      store.watch("hello", () => this.#layout()),
    ];
    this.#layout();
    this.#rates();
  }

  disconnectedCallback() {
    for (const stop of this.unwatch) stop();
  }

  /** `#/fleet/<id>` opens a node's pane. */
  go(id) {
    if (id) openNode(id);
  }

  #summary() {
    const tile = (name, spark) => {
      const value = h("span", { class: "tile-value" }, "–");
      const note = h("span", { class: "tile-note" });
      const line = spark ? h("lr-spark") : h("span", { class: "stack-bar", "aria-hidden": "true" });
      return { value, note, line, element: h("div", { class: "tile" }, h("span", { class: "tile-label" }, t(name)), h("span", { class: "tile-line" }, value, note), line) };
    };
    this.tiles = { nodes: tile("tile.nodes"), requests: tile("tile.requests", true), tokens: tile("tile.tokens", true), flight: tile("tile.flight", true), done: tile("tile.done") };
    return h("section", { class: "tiles", "aria-label": t("summary") }, Object.values(this.tiles).map((x) => x.element));
  }

  #toolbar() {
    const states = ["pending", "online", "suspect", "registering", "drained", "offline"].map((s) => [s, t(`state.${s}`)]);
    const toggle = (view, sign) => button("", () => this.#show(view), { kind: "quiet", sign, label: t(`view.${view}`), data: { view } });
    this.views = h("div", { class: "segmented", role: "group", "aria-label": t("view") }, toggle("cards", "cards"), toggle("rows", "rows"));
    const search = searchBox(t("search.nodes"), (text) => this.#narrow("text", text.toLowerCase()));
    const state = choice(t("state"), [["", t("all.states")], ...states], (value) => this.#narrow("state", value));
    this.tools = h("div", { class: "toolbar" }, search, state, h("span", { class: "spacer" }), this.views, addNode());
    return this.tools;
  }

  #list() {
    this.grid = h("div", { class: "cards", role: "list", "aria-label": t("page.fleet") });
    this.table = h("lr-node-table");
    this.none = empty(t("none.match"), t("none.match.hint"));
    this.start = empty(t("no.nodes"), t("no.nodes.hint"), joinCommand(), h("p", {}, addNode()));
    return h("div", {}, this.grid, this.table, this.none, this.start);
  }

  #narrow(what, value) {
    this[what] = value;
    this.#layout();
  }

  #show(view) {
    this.view = view;
    remember("view", view);
    this.#layout();
  }

  #chosen() {
    return [...store.nodes.values()].filter(
      (node) => (!this.state || stateOf(node) === this.state) && (!this.text || say.words(node).includes(this.text)),
    );
  }

  #news() {
    this.#layout();
    this.#totals();
  }

  #layout() {
    const nodes = this.#chosen();
    const known = store.nodes.size;
    const rows = nodes.length > CARDS_AT_MOST || (this.view ?? (known > CARDS ? "rows" : "cards")) === "rows";
    show(this.start, known === 0 && store.hello !== null);
    show(this.tools, known > 0);
    show(this.none, known > 0 && nodes.length === 0);
    show(this.grid, !rows && nodes.length > 0);
    show(this.table, rows && nodes.length > 0);
    for (const toggle of this.views.children) toggle.setAttribute("aria-pressed", (toggle.dataset.view === "rows") === rows);
    if (rows) this.table.show(nodes);
    this.#place(rows ? [] : nodes.sort((a, b) => urgency(a) - urgency(b) || byName(a.name, b.name)));
  }

  #place(nodes) {
    let before = null;
    const wanted = new Set(nodes.map((node) => node.id));
    for (const [id, card] of this.cards) if (!wanted.has(id)) (card.remove(), this.cards.delete(id));
    for (const node of nodes) {
      const card = this.cards.get(node.id) ?? h("lr-node-card");
      this.cards.set(node.id, card);
      const place = before ? before.nextSibling : this.grid.firstChild;
      if (place !== card) this.grid.insertBefore(card, place);
      card.update(node);
      before = card;
    }
  }

  #totals() {
    const nodes = [...store.nodes.values()];
    const up = nodes.filter(say.isUp);
    const sum = (name, of) => of.reduce((total, node) => total + node[name], 0);
    stack(this.tiles.nodes.line, { good: up.length, warm: nodes.filter((n) => n.state === "pending").length, rest: nodes.length - up.length });
    stack(this.tiles.done.line, { good: sum("done", nodes), bad: sum("failed", nodes) });
    put(this.tiles.nodes.value, count(up.length));
    put(this.tiles.nodes.note, t("of.nodes", { total: count(nodes.length) }));
    put(this.tiles.done.value, brief(sum("done", nodes)));
    put(this.tiles.done.note, t("errors.n", { n: sum("failed", nodes), count: brief(sum("failed", nodes)) }));
    put(this.tiles.flight.value, count(sum("in_flight", nodes)));
    const queued = Object.values(store.rates.queued ?? {}).reduce((a, b) => a + b, 0);
    put(this.tiles.flight.note, queued ? t("queued.n", { count: count(queued) }) : t("of.slots", { total: count(sum("slots", up)) }));
  }

  #rates() {
    const { rates, total } = store;
    this.tiles.flight.line.draw(total.flight, 1);
    put(this.tiles.requests.value, rate(rates.requests));
    put(this.tiles.tokens.value, rate(rates.tokens));
    this.tiles.requests.line.draw(total.requests, 1);
    this.tiles.tokens.line.draw(total.tokens, 10);
    this.#totals();
    for (const [id, card] of this.cards) if (store.nodes.has(id)) card.update(store.nodes.get(id));
  }
}

/** Shares of a whole as a bar in parts. */
function stack(bar, parts) {
  fill(bar, Object.keys(parts), () => Object.keys(parts).map((name) => h("span", { class: name })));
  Object.values(parts).forEach((value, i) => vary(bar.children[i], "--share", value));
}

/** Those that wait for a person come first; the others keep their places whatever happens to them. */
const urgency = (node) => (node.state === "pending" ? 0 : 1);

customElements.define("lr-fleet-page", FleetPage);
