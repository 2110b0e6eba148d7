// Models in little frames: where they are loaded, and where they are kept from.

import { h } from "./dom.js";
import { t } from "./i18n.js";

/** A model's name, and how it is on a node: kept from it, in its memory, or to be fetched first. */
export function chip(model, node) {
  const kind = node.excluded.includes(model) ? "excluded" : node.loaded.includes(model) ? "loaded" : node.offered.includes(model) ? "offered" : "";
  return h("li", { class: `chip ${kind}`, title: kind ? `${model} – ${t(kind)}` : model }, h("span", { class: "chip-name" }, model), kind && h("span", { class: "visually-hidden" }, ` (${t(kind)})`));
}
