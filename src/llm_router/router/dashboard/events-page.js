// Events: what happened to the nodes and what operators did, searchable, as it happens.

import { call, query } from "./api.js";
import { h, show } from "./dom.js";
import { fully, moment } from "./format.js";
import { t, tOr } from "./i18n.js";
import { choice, empty, say, searchBox } from "./parts.js";
import { openNode } from "./node-drawer.js";
import { store } from "./store.js";

const PAGE = 100; // events fetched at once
const SHOWN = 1000; // events in the page: further back, a search or the API goes

// What an event means at a glance; others are neutral.
const MOODS = {
  "node.added": "good", "node.registered": "good", "node.online": "good", "node.approved": "good", "node.model_restored": "good",
  "node.offline": "bad", "node.refused": "bad", "node.model_excluded": "bad", "access.refused": "bad",
  "model.added": "good", "model.changed": "", "model.removed": "warm",
  "node.suspect": "warm", "node.pending": "warm", "key.revoked": "warm", "join.token_rotated": "warm",
};

export class EventsPage extends HTMLElement {
  connectedCallback() {
    this.filter = { q: "", event: "" };
    this.list = h("ol", { class: "event-list" });
    this.more = h("button", { type: "button", class: "button", on: { click: () => this.#older() } }, t("older"));
    this.none = empty(t("no.events"), t("no.events.hint"));
    const names = Object.keys(MOODS).map((name) => [name, tOr(`event.${name}`, name)]);
    const tools = h("div", { class: "toolbar" }, searchBox(t("search.events"), (q) => this.#narrow("q", q)), choice(t("event"), [["", t("all.events")], ...names], (event) => this.#narrow("event", event)));
    this.append(tools, this.list, h("p", { class: "more" }, this.more), this.none);
    this.unwatch = [store.watch("events", (events) => this.#live(events)), store.watch("hello", () => this.#restart())];
    this.#restart();
  }

  disconnectedCallback() {
    for (const stop of this.unwatch) stop();
  }

  #narrow(name, value) {
    this.filter[name] = value;
    this.#restart();
  }

  async #restart() {
    this.events = [];
    this.oldest = undefined;
    await this.#older();
  }

  async #older() {
    const asked = (this.asked = { ...this.filter, limit: PAGE, before: this.oldest });
    try {
      const page = await call("GET", `/v0/events${query(asked)}`);
      if (asked !== this.asked) return; // another search has begun meanwhile
      if (!asked.before) this.list.replaceChildren();
      this.oldest = page.at(-1)?.seq;
      this.events.push(...page);
      this.list.append(...page.map(line));
      show(this.more, page.length === PAGE && this.oldest !== undefined && this.events.length < SHOWN);
      show(this.none, this.events.length === 0);
    } catch (error) {
      say(error.message, "bad");
    }
  }

  #live(events) {
    const known = new Set(this.events.slice(0, PAGE).map(keyOf));
    const fresh = events.filter((event) => this.#matches(event) && !known.has(keyOf(event))).reverse();
    this.events.unshift(...fresh);
    this.list.prepend(...fresh.map(line));
    while (this.list.childElementCount > SHOWN) this.list.lastChild.remove();
    show(this.none, this.events.length === 0);
  }

  #matches({ event, name, detail, node_id: id }) {
    const { q, event: kind } = this.filter;
    return (!kind || event === kind) && [event, name, detail, id].join("\n").toLowerCase().includes(q.toLowerCase());
  }
}

const keyOf = ({ at, event, node_id: id, detail }) => [at.toFixed(3), event, id, detail].join("\n");

function line(event) {
  const known = store.nodes.has(event.node_id);
  const name = known ? h("button", { type: "button", class: "link", on: { click: () => openNode(event.node_id) } }, event.name || event.node_id) : h("span", {}, event.name || event.node_id);
  return h(
    "li",
    { class: `event ${MOODS[event.event] ?? ""}` },
    h("time", { datetime: new Date(event.at * 1000).toISOString(), title: fully(event.at) }, moment(event.at)),
    h("span", { class: "event-what", title: event.event }, tOr(`event.${event.event}`, event.event)),
    h("span", { class: "event-who" }, name),
    h("span", { class: "event-detail" }, event.detail),
  );
}

customElements.define("lr-events-page", EventsPage);
