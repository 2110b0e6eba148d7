// What is said of a model: where it is and how, and how many nodes shall have it.

import { count } from "./format.js";
import { t } from "./i18n.js";
import { isUp } from "./node-facts.js";
import { allPulls } from "./pulls.js";
import { store } from "./store.js";

const NOWHERE = Object.freeze({ held: [], loaded: [], offered: [], excluded: [], fetching: [], failed: [] });

/**
 * Where every model is: model -> lists of {node, …}. held: stored there; loaded: in memory, too; offered: it could run
 * it, and would fetch it first; excluded: with {why}; fetching: with {what}, a Progress; failed: with {problem}.
 */
export function placesOf(nodes) {
  const found = new Map();
  const at = (model) => found.get(model) ?? found.set(model, { held: [], loaded: [], offered: [], excluded: [], fetching: [], failed: [] }).get(model);
  for (const node of nodes) place(node, at);
  for (const { model, node: id, what, problem } of allPulls()) {
    const node = store.nodes.get(id);
    if (node && problem) at(model).failed.push({ node, problem });
    // The node's own word is better: it knows what was there, and goes on when this page is closed.
    else if (node && !at(model).fetching.some((other) => other.node.id === id)) at(model).fetching.push({ node, what });
  }
  return found;
}

function place(node, at) {
  const loaded = new Set(node.loaded);
  const offered = new Set(node.offered);
  const excluded = new Map(node.exclusions.map((e) => [e.model, e]));
  for (const model of node.models) {
    const here = at(model);
    (offered.has(model) ? here.offered : here.held).push({ node });
    if (loaded.has(model) && isUp(node)) here.loaded.push({ node });
    if (excluded.has(model)) here.excluded.push({ node, why: excluded.get(model) });
  }
  for (const what of node.progress) if (what.kind === "model") at(what.name).fetching.push({ node, what });
}

/** Where one model is. */
export const whereIs = (model, places = placesOf(store.nodes.values())) => places.get(model) ?? NOWHERE;

export const upOf = (list) => list.filter(({ node }) => isUp(node));

/** How it is, in a word for the coloured dot. */
export function stateOfModel(at) {
  if (at.fetching.length) return "fetching";
  if (at.loaded.length) return "loaded";
  if (upOf(at.held).length) return "stored";
  return upOf(at.offered).length ? "offered" : "nowhere";
}

/** "GGUF · Q4_K_M" */
export const formatOf = ({ format, quantization }) => [format === "gguf" ? "GGUF" : format, quantization].filter(Boolean).join(" · ");

/** Whether the router keeps it on nodes, or has it fetched at the first request. */
export const isStanding = ({ nodes, pinned, preload }) => nodes > 1 || pinned.length > 0 || preload;

/** "Kept on 3 nodes · pinned to atlas · in memory" */
export function placementText(placement) {
  const { nodes, pinned, preload } = placement;
  if (!isStanding(placement)) return t("placement.demand");
  const names = pinned.map((id) => store.nodes.get(id)?.name ?? id);
  const parts = [
    (nodes > 1 || !pinned.length) && t("placement.on", { n: nodes, count: count(nodes) }),
    pinned.length > 0 && t("placement.pinned.on", { nodes: names.join(", ") }),
    preload && t("placement.in.memory"),
  ];
  const text = parts.filter(Boolean).join(" · ");
  return text[0].toUpperCase() + text.slice(1);
}

/** How many nodes it should be on and is not. */
export const lacking = ({ nodes, pinned, preload }, at) => (isStanding({ nodes, pinned, preload }) ? Math.max(0, Math.max(nodes, pinned.length) - at.held.length) : 0);
