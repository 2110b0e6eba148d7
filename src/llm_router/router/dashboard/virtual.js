// A table of any length: only the rows in view, and some beyond, are elements.

import { h, mark, vary } from "./dom.js";

const SPARE = 8; // rows beyond each edge, so that a quick scroll finds something there

/**
 * Rows of a table that scrolls with the page. Every row is `height` pixels high.
 * `make()` builds a row, `update(row, item)` shows an item in it, `near()` hears that the end comes into view.
 * A row's `item` is what it shows; it is another one when the row is used again.
 */
export class VirtualRows {
  #rows = new Map();
  #free = []; // rows out of view, for the next ones that come into it: making them is what costs
  #items = [];

  constructor(table, { height, make, update, key, near = () => {} }) {
    Object.assign(this, { table, height, make, update, key, near });
    this.above = this.#gap();
    this.body = h("tbody");
    this.below = this.#gap();
    table.append(this.above, this.body, this.below);
    this.scrolled = () => this.#place(false);
  }

  #gap() {
    return h("tbody", { class: "gap", "aria-hidden": "true" }, h("tr", {}, h("td", {})));
  }

  start() {
    window.addEventListener("scroll", this.scrolled, { passive: true });
    window.addEventListener("resize", this.scrolled);
  }

  stop() {
    window.removeEventListener("scroll", this.scrolled);
    window.removeEventListener("resize", this.scrolled);
  }

  /** These are the items now, in this order. */
  show(items) {
    this.#items = items;
    mark(this.table, "aria-rowcount", items.length + 1);
    this.#place(true);
  }

  /** `all`: every row in view may have news; else only those that come into view are written. */
  #place(all) {
    const from = -this.above.getBoundingClientRect().top / this.height;
    const seen = window.innerHeight / this.height;
    const first = Math.max(0, Math.min(this.#items.length, Math.floor(from)) - SPARE);
    const last = Math.min(this.#items.length, Math.ceil(from + seen) + SPARE);
    vary(this.above.firstChild, "--gap", `${first * this.height}px`);
    vary(this.below.firstChild, "--gap", `${Math.max(0, this.#items.length - Math.max(first, last)) * this.height}px`);
    this.#fill(first, Math.max(first, last), all);
    if (last >= this.#items.length) this.near();
  }

  #fill(first, last, all) {
    const wanted = new Set();
    for (let i = first; i < last; i += 1) wanted.add(this.key(this.#items[i]));
    for (const [id, row] of this.#rows) if (!wanted.has(id)) this.#put(id, row);
    let before = null;
    for (let i = first; i < last; i += 1) {
      const item = this.#items[i];
      const row = this.#row(item);
      const other = row.item !== item;
      row.item = item;
      mark(row, "aria-rowindex", i + 2);
      const place = before ? before.nextSibling : this.body.firstChild;
      if (place !== row) this.body.insertBefore(row, place);
      if (all || other) this.update(row, item); // once it is placed: its parts come to life there
      before = row;
    }
    for (const row of this.#free) row.remove();
  }

  #put(id, row) {
    this.#rows.delete(id);
    this.#free.push(row); // it stays where it is until it is known whether another item needs it
  }

  #row(item) {
    const id = this.key(item);
    let row = this.#rows.get(id);
    if (!row) {
      row = this.#free.pop() ?? this.make();
      this.#rows.set(id, row);
    }
    return row;
  }
}
