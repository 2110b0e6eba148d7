// What the pages know. Rule 1: only feed.js writes it. Rule 2: pages are told at most once per frame, by topic.

const RING = 1000; // records and events that are kept for pages opened later; older ones are fetched
export const SECONDS = 60; // of the rates' history: a minute is what a sparkline shows

/** Numbers of the last SECONDS seconds, oldest first. */
export class History {
  constructor() {
    this.requests = new Float32Array(SECONDS);
    this.tokens = new Float32Array(SECONDS);
    this.flight = new Float32Array(SECONDS);
  }

  push(requests, tokens, flight) {
    for (const [ring, value] of [[this.requests, requests], [this.tokens, tokens], [this.flight, flight]]) {
      ring.copyWithin(0, 1);
      ring[SECONDS - 1] = value;
    }
  }
}

const STILL = { requests: 0, tokens: 0, in_flight: 0, queued: {}, lost: 0 };

class Store {
  #watchers = new Map();
  #due = new Map();
  #frame = 0;

  constructor() {
    this.hello = null;
    this.link = "connecting"; // connecting, live, lost, signedout
    this.nodes = new Map();
    this.rates = STILL;
    this.total = new History();
    this.byNode = new Map(); // id -> History, of those that have had work
    this.requests = [];
    this.events = [];
    this.skew = 0; // seconds that the router's clock is ahead of ours
  }

  /** Now, in seconds since the epoch, by the router's clock. */
  now() {
    return Date.now() / 1000 + this.skew;
  }

  /** Call `listener(items)` when `topic` has news; the answer ends it. `items`: what is new, for topics that have some. */
  watch(topic, listener) {
    const listeners = this.#watchers.get(topic) ?? new Set();
    this.#watchers.set(topic, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  #tell(topic, items = []) {
    const due = this.#due.get(topic) ?? [];
    due.push(...items);
    this.#due.set(topic, due.length > RING ? due.slice(-RING) : due);
    // A hidden page gets no frames: its news wait, bounded, until somebody looks.
    this.#frame ||= requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    this.#frame = 0;
    const due = this.#due;
    this.#due = new Map();
    for (const [topic, items] of due) for (const listener of this.#watchers.get(topic) ?? []) listener(items);
  }

  // -- what feed.js learns

  linked(state) {
    if (this.link === state) return;
    this.link = state;
    this.#tell("link");
  }

  greeted(hello) {
    this.hello = hello;
    this.skew = hello.now - Date.now() / 1000;
    this.#tell("hello");
  }

  replaced(nodes) {
    this.nodes = new Map(nodes.map((node) => [node.id, node]));
    for (const id of this.byNode.keys()) if (!this.nodes.has(id)) this.byNode.delete(id);
    this.#tell("nodes", this.nodes.keys());
  }

  changed(node) {
    this.nodes.set(node.id, node);
    this.#tell("nodes", [node.id]);
  }

  removed(id) {
    this.nodes.delete(id);
    this.byNode.delete(id);
    this.#tell("nodes", [id]);
  }

  ended(records) {
    this.requests = [...this.requests, ...records].slice(-RING);
    this.#tell("requests", records);
  }

  happened(event) {
    this.events = [...this.events, event].slice(-RING);
    this.#tell("events", [event]);
  }

  rated(rates) {
    this.rates = rates;
    this.total.push(rates.requests, rates.tokens, rates.in_flight);
    const told = rates.nodes ?? {};
    for (const [id, now] of Object.entries(told)) this.#worked(id, now);
    for (const [id, history] of this.byNode) if (!(id in told)) history.push(0, 0, 0);
    this.#tell("nodes", Object.keys(told));
    this.#tell("rates");
  }

  #worked(id, { requests = 0, tokens = 0, ...counts }) {
    const node = this.nodes.get(id);
    if (!node) return;
    this.nodes.set(id, { ...node, ...counts });
    if (!this.byNode.has(id)) this.byNode.set(id, new History());
    this.byNode.get(id).push(requests, tokens, counts.in_flight ?? node.in_flight);
  }

  /** What ended in the last SECONDS seconds before we listened: a line starts with what was. */
  recalled(records) {
    const now = this.now();
    for (const { at, node_id: id, completion_tokens: tokens } of records) {
      const place = SECONDS - 1 - Math.floor(now - at);
      if (place < 0 || place >= SECONDS) continue;
      if (!this.byNode.has(id)) this.byNode.set(id, new History());
      for (const history of [this.total, this.byNode.get(id)]) {
        history.requests[place] += 1;
        history.tokens[place] += tokens;
      }
    }
    this.#tell("rates");
  }

  /** A second without news of rates: nothing happened in it. */
  rested() {
    this.rated({ ...this.rates, requests: 0, tokens: 0, nodes: {} });
  }
}

export const store = new Store();
