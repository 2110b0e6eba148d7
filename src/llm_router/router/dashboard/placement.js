// Where a model should lie, as fields of a form: on demand, or kept on nodes.

import { h, show } from "./dom.js";
import { byName } from "./format.js";
import { t } from "./i18n.js";
import { isStanding } from "./model-facts.js";
import { field, searchBox } from "./parts.js";
import { store } from "./store.js";

const MOST = 1000; // nodes, as the router takes them
const MANY = 8; // nodes; more than these are searched
const ON_DEMAND = { nodes: 1, pinned: [], preload: false };

export class PlacementFields extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    const placement = this.placement ?? ON_DEMAND;
    const standing = isStanding(placement);
    this.demand = radio("demand", !standing);
    this.keep = radio("keep", standing);
    this.nodes = h("input", { type: "number", min: 1, max: MOST, step: 1, required: true, value: standing ? placement.nodes : 2 });
    this.preload = h("input", { type: "checkbox", checked: placement.preload });
    this.more = h("div", { class: "stack placement-more" }, field(t("placement.nodes"), this.nodes, t("placement.nodes.hint")), this.#pins(placement.pinned), tick(this.preload, t("placement.preload"), t("placement.preload.hint")));
    const options = h("div", { class: "stack tight" }, tick(this.demand, t("placement.demand"), t("placement.demand.hint")), tick(this.keep, t("placement.keep"), t("placement.keep.hint")));
    this.append(h("fieldset", { class: "placement" }, h("legend", { class: "field-label" }, t("placement")), options, this.more));
    this.addEventListener("change", () => this.#fit());
    this.#fit();
  }

  /** What was chosen, as the router wants it. */
  get value() {
    if (this.demand.checked) return ON_DEMAND;
    const pinned = this.pins.filter(({ box }) => box.checked).map(({ id }) => id);
    return { nodes: Number(this.nodes.value), pinned, preload: this.preload.checked };
  }

  #fit() {
    show(this.more, this.keep.checked);
    this.nodes.disabled = !this.keep.checked; // a field that is hidden must not keep the form from being sent
  }

  /** Agents alone fetch by themselves; and a node that is pinned and unknown by now can still be let go. */
  #pins(pinned) {
    const known = [...store.nodes.values()].filter((node) => node.kind === "agent").map(({ id, name }) => ({ id, name }));
    const gone = pinned.filter((id) => !known.some((node) => node.id === id)).map((id) => ({ id, name: id }));
    this.pins = [...known, ...gone].sort((a, b) => byName(a.name, b.name)).map(({ id, name }) => {
      const box = h("input", { type: "checkbox", checked: pinned.includes(id) });
      return { id, name, box, row: tick(box, name) };
    });
    if (!this.pins.length) return null;
    const find = (text) => this.pins.forEach(({ name, row }) => show(row, name.toLowerCase().includes(text.toLowerCase())));
    const search = this.pins.length > MANY && searchBox(t("search.nodes.name"), find);
    const list = h("div", { class: "pins" }, this.pins.map(({ row }) => row));
    return h("fieldset", { class: "field" }, h("legend", { class: "field-label" }, t("placement.pinned")), h("p", { class: "hint" }, t("placement.pinned.hint")), search, list);
  }
}

const radio = (value, checked) => h("input", { type: "radio", name: "placement", value, checked });

/** A box or a round one with its words, and what they mean. */
function tick(box, words, hint = "") {
  return h("label", { class: "tick" }, box, h("span", {}, h("span", { class: "tick-words" }, words), hint && h("span", { class: "hint" }, hint)));
}

customElements.define("lr-placement", PlacementFields);
