// What is said of a node, in words: the same in cards, rows and the pane.

import { bytes, duration, memoryOf, percent, span } from "./format.js";
import { t, tOr } from "./i18n.js";
import { store } from "./store.js";
import { stateOf } from "./parts.js";

/** "llama.cpp 1.2, ollama 0.9" */
export const runtimesOf = (node) => node.runtimes.map((r) => `${tOr(`runtime.${r.kind}`, r.kind)} ${r.version}`.trim()).join(", ");

/** The address without its scheme, which says nothing here. */
export const addressOf = (node) => node.url.replace(/^https?:\/\//, "");

/** Seconds since it came online, 0 while it is not. */
export const uptimeOf = (node) => (node.since && isUp(node) ? Math.max(1, store.now() - node.since) : 0);

/** "2 h 5 min", or since when nothing was heard of it. */
export function lastingOf(node) {
  if (isUp(node)) return uptimeOf(node) ? span(uptimeOf(node)) : "–";
  return node.last_seen > 0 ? t("ago", { time: span(Math.max(0, store.now() - node.last_seen)) }) : "–";
}

/** Requests may be sent to it. */
export const isUp = (node) => node.state === "online" || node.state === "suspect";

/** The models that it has, without those that it would have to fetch first. */
export function heldBy(node) {
  const offered = new Set(node.offered);
  return node.models.filter((model) => !offered.has(model));
}

/** Response time in words. */
export const latencyOf = (node) => duration(node.latency ?? 0);

/** Of its slots, the part in use: 0…100. */
export const loadOf = (node) => (node.slots ? (100 * node.in_flight) / node.slots : 0);

/** Graphics processors as one: the busiest's use, all memory. null: it has none. */
export function gpuOf(node) {
  if (!node.gpus.length) return null;
  const sum = (name) => node.gpus.reduce((total, gpu) => total + gpu[name], 0);
  return {
    utilization: Math.max(...node.gpus.map((gpu) => gpu.utilization)),
    used: sum("memory_used"),
    total: sum("memory_total"),
    name: node.gpus.length > 1 ? `${node.gpus.length} × ${node.gpus[0].name}` : node.gpus[0].name,
  };
}

/** "82% · 18/24 GB" */
export function gpuText(gpu) {
  return gpu.total ? `${percent(gpu.utilization)} · ${memoryOf(gpu.used, gpu.total)}` : percent(gpu.utilization);
}

/** "43% · 12 MB/s · 2 min left", as far as it is known. */
export function progressText(what) {
  const waits = !what.total || /^(waiting|is tried)/.test(what.step); // how far it is, then, is not what one wants to know
  const left = what.rate > 0 && what.total > what.done ? (what.total - what.done) / what.rate : 0;
  const parts = [
    waits ? tOr(`step.${what.step}`, what.step) : percent((100 * what.done) / what.total),
    what.rate > 0 && `${bytes(what.rate)}/${t("unit.s")}`,
    left > 0 && t("left", { time: span(left) }),
  ];
  return parts.filter(Boolean).join(" · ");
}

/** What a search looks at. */
export function words(node) {
  const own = [node.name, node.machine, node.url, node.os, node.backend, node.settings.notes, runtimesOf(node)];
  return [...own, ...node.models, ...node.settings.tags, ...node.gpus.map((gpu) => gpu.name)].join("\n").toLowerCase();
}

/** What needs a person first, then by name. */
export const ORDER = ["pending", "suspect", "registering", "online", "drained", "offline"];

export const rank = (node) => ORDER.indexOf(stateOf(node));
