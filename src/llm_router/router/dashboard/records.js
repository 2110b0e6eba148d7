// Facts about one request that are computed from its record.

import { t, tOr } from "./i18n.js";

/** How it ended, for the coloured dot: an answer that is an error is no good one. */
export function endOf(record) {
  if (record.outcome !== "done") return record.outcome;
  return record.status < 400 ? "done" : "refused";
}

export const endText = (record) => (record.outcome === "done" && record.status < 400 ? String(record.status) : `${record.status || ""} ${tOr(`outcome.${record.outcome}`, record.outcome)}`.trim());

/** Tokens per second of the answer, 0 where nobody knows: of a stream, since its first token. */
export function speedOf(record) {
  const spent = record.streamed ? record.seconds - record.first_byte : record.seconds - record.waited;
  return record.completion_tokens > 1 && spent > 0.001 ? record.completion_tokens / spent : 0;
}

/** Its time in parts: [name, seconds]. */
export function partsOf(record) {
  const first = Math.max(record.first_byte || record.seconds, record.waited);
  return [["waited", record.waited], ["prefill", first - record.waited], ["decode", record.seconds - first]].filter(([, s]) => s > 0.0005);
}

export const operationOf = (record) => tOr(`operation.${record.operation}`, record.operation);

export const outcomes = () => ["done", "failed", "broken", "refused", "cancelled"].map((o) => [o, t(`outcome.${o}`)]);
