// Nodes as rows, for fleets of any size; sorted by what a person chose.

import { h, mark, put } from "./dom.js";
import { brief, byName, count, percent } from "./format.js";
import { t } from "./i18n.js";
import * as say from "./node-facts.js";
import { openNode } from "./node-drawer.js";
import { slotsBar, stateOf } from "./parts.js";
import { store } from "./store.js";
import { VirtualRows } from "./virtual.js";

const ROW = 48; // pixels, as --row in style.css

// What is shown: the name of the column, its class (which says where there is room for it), and what it is sorted by.
const COLUMNS = [
  ["node", "c-name", (node) => node.name],
  ["state", "c-state", say.rank],
  ["slots", "c-slots", (node) => -node.in_flight],
  ["activity", "c-spark c-mid", null],
  ["done", "c-num", (node) => -node.done],
  ["errors", "c-num c-wide", (node) => -node.failed],
  ["latency", "c-num c-wide", (node) => -(node.latency ?? 0)],
  ["cpu", "c-num c-wide", (node) => -node.cpu],
  ["memory", "c-num c-mid", (node) => -node.memory],
  ["gpu", "c-num c-wide", (node) => -(say.gpuOf(node)?.utilization ?? -1)],
  ["models", "c-num c-mid", (node) => -say.heldBy(node).length],
  ["uptime", "c-num c-last", (node) => -say.uptimeOf(node)],
];

const compare = (a, b) => (typeof a === "string" ? byName(a, b) : a - b);

export class NodeTable extends HTMLElement {
  connectedCallback() {
    this.by = 0;
    this.table = h("table", { class: "table node-table" }, h("caption", { class: "visually-hidden" }, t("page.fleet")), this.#head());
    this.rows = new VirtualRows(this.table, { height: ROW, key: (node) => node.id, make, update });
    this.append(this.table);
    this.rows.start();
  }

  disconnectedCallback() {
    this.rows.stop();
  }

  #head() {
    const cells = COLUMNS.map(([name, kind, value], i) => {
      if (!value) return h("th", { scope: "col", class: kind }, t(name));
      const sort = h("button", { type: "button", class: "sort", on: { click: () => this.#sortBy(i) } }, t(name));
      return h("th", { scope: "col", class: kind, "aria-sort": i === this.by ? "ascending" : null }, sort);
    });
    return h("thead", {}, (this.heads = h("tr", {}, cells)));
  }

  #sortBy(column) {
    this.by = column;
    const way = column < 2 ? "ascending" : "descending"; // of numbers the large ones come first
    [...this.heads.children].forEach((th, i) => (i === column ? mark(th, "aria-sort", way) : th.removeAttribute("aria-sort")));
    this.show(this.nodes);
  }

  show(nodes) {
    this.nodes = nodes;
    const value = COLUMNS[this.by][2];
    this.rows.show([...nodes].sort((a, b) => compare(value(a), value(b)) || byName(a.name, b.name)));
  }
}

function make() {
  const row = h("tr", { class: "row" });
  const cell = (kind, ...children) => row.appendChild(h("td", { class: kind }, ...children));
  row.name = h("button", { type: "button", class: "card-open", on: { click: () => openNode(row.item.id) } });
  row.address = h("span", { class: "row-sub" });
  row.append(h("th", { scope: "row", class: "c-name" }, row.name, row.address));
  row.state = h("lr-state");
  cell("c-state", row.state);
  row.slots = slotsBar();
  cell("c-slots", row.slots);
  row.spark = h("lr-spark");
  cell("c-spark c-mid", row.spark);
  row.fields = COLUMNS.slice(4).map(([, kind]) => cell(kind));
  return row;
}

function update(row, node) {
  const state = stateOf(node);
  mark(row, "data-state", state);
  put(row.name, node.name);
  put(row.address, say.addressOf(node));
  row.state.set(state);
  row.slots.set(say.loadOf(node), `${count(node.in_flight)} / ${count(node.slots)}`);
  const history = store.byNode.get(node.id);
  row.spark.draw(history?.requests, 0.5);
  const agent = node.kind === "agent";
  const gpu = say.gpuOf(node);
  const texts = [
    brief(node.done),
    brief(node.failed),
    say.latencyOf(node),
    agent ? percent(node.cpu) : "–",
    agent ? percent(node.memory) : "–",
    gpu ? percent(gpu.utilization) : "–",
    count(say.heldBy(node).length),
    say.lastingOf(node),
  ];
  texts.forEach((text, i) => put(row.fields[i], text));
}

customElements.define("lr-node-table", NodeTable);
