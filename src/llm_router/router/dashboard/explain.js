// Why a request would go where it would: the candidates and what each would cost.

import { h } from "./dom.js";
import { count } from "./format.js";
import { t, tOr } from "./i18n.js";

const SHOWN = 12; // candidates and refused ones; the best and the first are what one asks about

/** An Explanation as a sentence and two lists. */
export function explain(told) {
  const parts = [...new Set(told.candidates.flatMap((c) => Object.keys(c.cost)))];
  const sentence = told.decision === "lease" ? t("explain.lease", { node: told.node, policy: told.policy }) : `${t(`explain.${told.decision}`)} ${told.reason}`;
  return h("div", { class: "stack" }, h("p", {}, sentence), told.candidates.length > 0 && table(told, parts), told.others.length > 0 && others(told.others));
}

function table({ candidates, node_id: chosen }, parts) {
  const heads = [t("node"), t("in.flight"), t("state.loaded"), ...parts.map((name) => tOr(`cost.${name}`, name))];
  const row = (c) =>
    h(
      "tr",
      { class: c.node_id === chosen ? "chosen" : null },
      h("th", { scope: "row" }, c.node),
      h("td", { class: "c-num" }, `${count(c.in_flight)} / ${count(c.slots)}`),
      h("td", {}, t(c.loaded ? "yes" : "no")),
      parts.map((name) => h("td", { class: "c-num" }, name in c.cost ? c.cost[name].toFixed(3) : "–")),
    );
  return h(
    "div",
    { class: "scroll-x", tabindex: 0, role: "region", "aria-label": t("why.node") },
    h("table", { class: "table plain" }, h("thead", {}, h("tr", {}, heads.map((name, i) => h("th", { scope: "col", class: i && i !== 2 ? "c-num" : "" }, name)))), h("tbody", {}, candidates.slice(0, SHOWN).map(row))),
  );
}

/** Those that could not, by their reasons. */
function others(list) {
  const reasons = new Map();
  for (const { node, reason } of list) reasons.set(reason, [...(reasons.get(reason) ?? []), node]);
  const line = ([reason, names]) => h("li", {}, h("span", {}, h("strong", {}, reason), ": ", names.slice(0, SHOWN).join(", "), names.length > SHOWN && ` +${count(names.length - SHOWN)}`));
  return h("ul", { class: "list small" }, [...reasons].slice(0, SHOWN).map(line));
}
