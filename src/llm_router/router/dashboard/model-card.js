// A model of the catalogue as a card: what it is, what it needs, where it is, and what is on its way.

import { fill, h, mark, put, show } from "./dom.js";
import { bytes, count, memory } from "./format.js";
import { t } from "./i18n.js";
import * as say from "./model-facts.js";
import { isUp, progressText } from "./node-facts.js";
import { openModel } from "./model-pane.js";

const PLACES = 4; // nodes that a card names; the pane has them all

export class ModelCard extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    this.classList.add("card", "model-card");
    this.setAttribute("role", "listitem");
    this.state = h("lr-state");
    this.heading = h("button", { type: "button", class: "card-open", on: { click: () => openModel(this.model) } });
    this.name = h("div", { class: "card-sub mono" });
    this.format = h("dd");
    this.size = h("dd");
    this.memory = h("dd");
    this.places = h("ul", { class: "chips", "aria-label": t("nodes.of.model") });
    this.progress = h("div", { class: "progresses" });
    this.placement = h("p", { class: "card-foot" });
    const fact = (name, value) => h("div", {}, h("dt", {}, t(name)), value);
    this.append(
      h("header", { class: "card-head" }, h("div", { class: "card-line" }, h("h3", { class: "card-title" }, this.heading), this.state), this.name),
      h("dl", { class: "numbers three" }, fact("format", this.format), fact("size", this.size), fact("memory.needed", this.memory)),
      this.progress,
      h("div", { class: "card-more" }, this.places, this.placement),
    );
  }

  update(entry, at) {
    this.model = entry.name;
    const state = say.stateOfModel(at);
    mark(this, "data-state", state);
    this.state.set(state, t(`model.state.${state}`));
    put(this.heading, entry.display_name || entry.name);
    put(this.name, entry.display_name ? entry.name : entry.url.replace(/^https?:\/\//, ""));
    put(this.format, say.formatOf(entry));
    put(this.size, entry.size ? bytes(entry.size) : "–");
    put(this.memory, entry.memory ? memory(entry.memory) : "–");
    fill(this.places, [at.held, at.loaded, at.offered].map(seen), () => placeChips(at));
    show(this.places, at.held.length + at.offered.length > 0);
    showProgress(this.progress, at);
    const missing = say.lacking(entry.placement, at);
    put(this.placement, [say.placementText(entry.placement), missing > 0 && t("placement.missing", { n: missing, count: count(missing) })].filter(Boolean).join(" · "));
  }
}

const seen = (list) => list.map(({ node }) => [node.name, node.state]);

/** The nodes that have it, those with it in memory first, then those that could. */
function placeChips(at) {
  const loaded = new Set(at.loaded.map(({ node }) => node.id));
  const stored = at.held.filter(({ node }) => !loaded.has(node.id));
  const all = [
    ...at.loaded.map(({ node }) => [node, "loaded", t("model.at.loaded")]),
    ...stored.filter(({ node }) => isUp(node)).map(({ node }) => [node, "stored", t("model.at.stored")]),
    ...say.upOf(at.offered).map(({ node }) => [node, "offered", t("model.at.offered")]),
    ...stored.filter(({ node }) => !isUp(node)).map(({ node }) => [node, "away", t(`state.${node.state}`)]),
  ];
  const chip = ([node, how, words]) => h("li", { class: `chip ${how}`, title: `${node.name} – ${words}` }, h("span", { class: "chip-name" }, node.name), h("span", { class: "visually-hidden" }, ` (${words})`));
  const rest = all.length - PLACES;
  return [...all.slice(0, PLACES).map(chip), rest > 0 && h("li", { class: "chip more" }, `+${count(rest)}`)];
}

/** A bar for each node that fetches it. */
function showProgress(element, { fetching }) {
  fill(element, fetching.map(({ node }) => node.id), () => fetching.map(() => h("lr-progress")));
  fetching.forEach(({ node, what }, i) => element.children[i].set({ ...what, name: node.name }, progressText(what)));
  show(element, fetching.length > 0);
}

customElements.define("lr-model-card", ModelCard);
