// Requests: as they end, and all those before, filtered by the router.

import { call, query } from "./api.js";
import { h, put, show } from "./dom.js";
import { byName, count, duration, moment, rate } from "./format.js";
import { t } from "./i18n.js";
import { choice, empty, say, searchBox } from "./parts.js";
import { icon } from "./icons.js";
import { endOf, endText, outcomes, speedOf } from "./records.js";
import { openRequest } from "./request-drawer.js";
import { store } from "./store.js";
import { VirtualRows } from "./virtual.js";

const ROW = 44; // pixels, as --row-small in style.css
const PAGE = 200; // records fetched at once
const KEPT = 20_000; // records in memory; about 10 MB
const NEAR_TOP = 80; // pixels; who has scrolled further reads, and what is new must not push that away

const COLUMNS = [
  ["time", "c-time"],
  ["result", "c-result"],
  ["model", "c-model"],
  ["node", "c-node"],
  ["client", "c-client c-mid"],
  ["waited", "c-num c-wide"],
  ["ttft", "c-num"],
  ["tokens", "c-num c-mid"],
  ["speed", "c-num"],
  ["total", "c-num c-last"],
];

const HOUR = 3600;

export class RequestsPage extends HTMLElement {
  connectedCallback() {
    this.filter = { q: "", outcome: "", model: "", node: "", since: "" };
    this.records = [];
    this.fresh = [];
    this.append(this.#toolbar(), this.#list());
    this.rows.start();
    this.unwatch = [store.watch("requests", (records) => this.#live(records)), store.watch("hello", () => this.#restart())];
    this.onscroll = () => window.scrollY <= NEAR_TOP && this.#mix();
    window.addEventListener("scroll", this.onscroll, { passive: true });
    this.#restart();
  }

  disconnectedCallback() {
    this.rows.stop();
    window.removeEventListener("scroll", this.onscroll);
    for (const stop of this.unwatch) stop();
  }

  #toolbar() {
    const nodes = [...store.nodes.values()].sort((a, b) => byName(a.name, b.name));
    const models = [...new Set(nodes.flatMap((node) => node.models))].sort(byName);
    const set = (name) => (value) => this.#narrow(name, value);
    const times = [["", t("any.time")], ["1", t("last.hour")], ["24", t("last.day")], ["168", t("last.week")]];
    this.exports = h("span", { class: "exports" }, ["csv", "json"].map((format) => h("a", { class: "button", data: { format }, download: `requests.${format}` }, icon("download"), format.toUpperCase())));
    return h(
      "div",
      { class: "toolbar" },
      searchBox(t("search.requests"), set("q")),
      choice(t("result"), [["", t("all.results")], ...outcomes()], set("outcome")),
      choice(t("model"), [["", t("all.models")], ...models.map((m) => [m, m])], set("model")),
      choice(t("node"), [["", t("all.nodes")], ...nodes.map((n) => [n.id, n.name])], set("node")),
      choice(t("time"), times, (hours) => this.#narrow("since", hours && Math.floor(store.now() - hours * HOUR))),
      h("span", { class: "spacer" }),
      this.exports,
    );
  }

  #list() {
    const heads = COLUMNS.map(([name, kind]) => h("th", { scope: "col", class: kind }, t(name)));
    this.table = h("table", { class: "table requests-table" }, h("caption", { class: "visually-hidden" }, t("page.requests")), h("thead", {}, h("tr", {}, heads)));
    this.rows = new VirtualRows(this.table, { height: ROW, key: (r) => r.id, make, update, near: () => this.#older() });
    this.more = h("button", { type: "button", class: "button primary fresh", on: { click: () => this.#toTop() } });
    this.none = empty(t("no.requests"), t("no.requests.hint"), h("p", {}, h("a", { class: "button primary", href: "#/try" }, t("page.try"))));
    this.nomatch = empty(t("none.match"), t("none.match.hint"));
    return h("div", {}, this.more, this.table, this.none, this.nomatch);
  }

  #narrow(name, value) {
    this.filter[name] = value;
    this.#restart();
  }

  async #restart() {
    this.complete = false;
    this.fetching = null;
    this.records = [];
    this.fresh = [];
    for (const link of this.exports.children) link.href = `/v0/requests${query({ ...this.filter, format: link.dataset.format })}`;
    await this.#older();
  }

  /** Fetch the records before the oldest that is known. */
  async #older() {
    if (this.fetching || this.complete) return;
    const mine = (this.fetching = {});
    try {
      const before = this.records.findLast((record) => record.seq)?.seq;
      const page = await call("GET", `/v0/requests${query({ ...this.filter, limit: PAGE, before })}`);
      if (mine !== this.fetching) return; // the filter has changed meanwhile
      this.complete = page.length < PAGE || this.records.length > KEPT || (this.records.length > 0 && !before);
      this.#add(page, false);
    } catch (error) {
      if (mine === this.fetching) say(error.message, "bad");
      this.complete = true;
    } finally {
      if (mine === this.fetching) this.fetching = null;
    }
    this.#draw();
  }

  #live(records) {
    this.fresh.push(...records.filter((record) => this.#matches(record)));
    if (window.scrollY <= NEAR_TOP) this.#mix();
    else this.#draw();
  }

  /** Put what is new at the top. */
  #mix() {
    if (!this.fresh.length) return;
    const newest = this.fresh.reverse();
    this.fresh = [];
    this.#add(newest, true);
    this.#draw();
  }

  #add(records, atTop) {
    const known = new Map((atTop ? this.records.slice(0, PAGE * 2) : this.records).map((r) => [r.id, r]));
    const fresh = records.filter((record) => !known.has(record.id));
    this.records = (atTop ? [...fresh, ...this.records] : [...this.records, ...fresh]).slice(0, KEPT + PAGE);
  }

  #toTop() {
    window.scrollTo({ top: 0 });
    this.#mix();
  }

  #matches(record) {
    const { q, outcome, model, node } = this.filter;
    const text = [record.model, record.node, record.client, record.error, record.id].join("\n").toLowerCase();
    return (!q || text.includes(q.toLowerCase())) && (!outcome || record.outcome === outcome) && (!model || record.model === model) && (!node || record.node_id === node);
  }

  #draw() {
    const filtered = Object.values(this.filter).some(Boolean);
    const nothing = this.records.length === 0 && this.complete;
    this.rows.show(this.records);
    show(this.table, this.records.length > 0);
    show(this.none, nothing && !filtered);
    show(this.nomatch, nothing && filtered);
    show(this.more, this.fresh.length > 0);
    put(this.more, t("fresh.n", { n: this.fresh.length, count: count(this.fresh.length) }));
  }
}

function make() {
  const row = h("tr", { class: "row" });
  row.open = h("button", { type: "button", class: "card-open", on: { click: () => openRequest(row.item) } });
  row.result = h("lr-state");
  row.fields = COLUMNS.slice(2).map(([, kind]) => h("td", { class: kind }));
  row.append(h("th", { scope: "row", class: "c-time" }, row.open), h("td", { class: "c-result" }, row.result), ...row.fields);
  return row;
}

function update(row, record) {
  if (row.shown === record) return;
  row.shown = record;
  put(row.open, moment(record.at));
  row.result.set(endOf(record), endText(record));
  const speed = speedOf(record);
  const texts = [
    record.model || "–",
    record.node || "–",
    record.client,
    record.waited > 0.0005 ? duration(record.waited) : "–",
    duration(record.first_byte),
    record.completion_tokens ? count(record.completion_tokens) : "–",
    speed ? rate(speed) : "–",
    duration(record.seconds),
  ];
  texts.forEach((text, i) => put(row.fields[i], text));
}

customElements.define("lr-requests-page", RequestsPage);
