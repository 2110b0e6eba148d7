// Models in little frames: where they are loaded, and where they are kept from.

import { h } from "./dom.js";
import { t } from "./i18n.js";

/** A model's name, and how it is there. */
export function chip(model, loaded, excluded) {
  const kind = excluded ? "excluded" : loaded ? "loaded" : "";
  return h("li", { class: `chip ${kind}`, title: kind ? `${model} – ${t(kind)}` : model }, h("span", { class: "chip-name" }, model), kind && h("span", { class: "visually-hidden" }, ` (${t(kind)})`));
}
