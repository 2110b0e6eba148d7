// What this page has had nodes fetch: how far it is, and what went wrong. It goes on while other pages are looked at.

import { models } from "./api.js";
import { t } from "./i18n.js";
import { say } from "./parts.js";

const pulls = new Map(); // one model on one node -> {model, node: its id, what: a Progress, problem}
const listeners = new Set();

const keyOf = (model, node) => `${model}\n${node}`;
const tell = () => listeners.forEach((listener) => listener());

/** Call `listener()` when something is begun, gets on or ends; the answer ends it. */
export function watchPulls(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Those that run, and those that failed: `problem` says why. */
export const allPulls = () => pulls.values();

/** Have a node fetch a model. */
export async function pull(model, node) {
  const run = { model, node: node.id, problem: "", what: { kind: "model", name: model, step: "starting", done: 0, total: 0, rate: 0 } };
  pulls.set(keyOf(model, node.id), run);
  tell();
  try {
    await follow(run);
    pulls.delete(keyOf(model, node.id));
    say(t("pulled", { model, node: node.name }), "good");
  } catch (error) {
    run.problem = error.message;
    say(error.message, "bad");
  }
  tell();
}

/** Forget one that failed. */
export function dismiss(model, id) {
  pulls.delete(keyOf(model, id));
  tell();
}

async function follow(run) {
  const layers = new Map(); // digest -> its last record: each is told of for itself (Ollama's /api/pull)
  const began = performance.now();
  let had; // bytes that were there before: they have no speed
  for await (const record of await models.pull(run.model, run.node)) {
    if (record.error) throw new Error(record.error);
    if (record.digest) layers.set(record.digest, record);
    const sum = (name) => [...layers.values()].reduce((total, layer) => total + (layer[name] ?? 0), 0);
    const done = sum("completed");
    if (layers.size) had ??= done;
    const rate = done > had ? (done - had) / ((performance.now() - began) / 1000) : 0;
    run.what = { ...run.what, step: record.status ?? "", done, total: sum("total"), rate };
    tell();
  }
}
