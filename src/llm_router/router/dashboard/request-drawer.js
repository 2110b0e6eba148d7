// The pane of one request: where its time went, and everything that is known of it.

import { open } from "./dialogs.js";
import { h } from "./dom.js";
import { count, duration, fully, rate } from "./format.js";
import { t } from "./i18n.js";
import { facts } from "./parts.js";
import { endOf, endText, operationOf, partsOf, speedOf } from "./records.js";
import { store } from "./store.js";

/** Open the pane. */
export function openRequest(record) {
  const state = h("lr-state");
  const speed = speedOf(record);
  const pairs = [
    [t("time"), fully(record.at)],
    [t("model"), record.model || "–"],
    [t("node"), nodeLink(record)],
    [t("client"), record.client || "–"],
    [t("operation"), operationOf(record)],
    [t("streamed"), t(record.streamed ? "yes" : "no")],
    [t("attempts"), count(record.attempts)],
    [t("prompt.tokens"), record.prompt_tokens ? count(record.prompt_tokens) : "–"],
    [t("completion.tokens"), record.completion_tokens ? count(record.completion_tokens) : "–"],
    [t("speed"), speed ? t("tokens.per.second", { rate: rate(speed) }) : "–"],
    ["ID", h("code", {}, record.id)],
  ];
  open("drawer", t("request"), h("div", { class: "stack" }, state, record.error && h("p", { class: "error-text" }, record.error), timeline(record), facts(pairs)));
  state.set(endOf(record), endText(record));
}

function nodeLink(record) {
  if (!store.nodes.has(record.node_id)) return record.node || "–";
  return h("a", { href: `#/fleet/${encodeURIComponent(record.node_id)}`, on: { click: (event) => event.target.closest("dialog").close() } }, record.node);
}

/** Where its time went, as a bar in parts and in words. */
export function timeline(record) {
  const parts = partsOf(record);
  return h(
    "figure",
    { class: "timeline" },
    h("div", { class: "timeline-bar", "aria-hidden": "true" }, parts.map(([name, seconds]) => h("span", { class: `part ${name}`, vars: { "--share": Math.max(seconds / record.seconds, 0.01).toFixed(4) } }))),
    h("figcaption", {}, parts.map(([name, seconds]) => h("span", { class: `legend ${name}` }, `${t(`part.${name}`)} ${duration(seconds)}`)), h("span", { class: "legend whole" }, `${t("total")} ${duration(record.seconds)}`)),
  );
}
