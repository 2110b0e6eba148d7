// A streamed chat with the router's /api/chat: one JSON record per line.

import { ask, records } from "./api.js";

/**
 * Ask, and hand over what comes. `told({node, id})` when the answer begins, `said(content, thinking)` with each piece.
 * Returns the last record. Raises ApiError, and AbortError when `signal` ends it.
 */
export async function chat(model, messages, signal, told, said) {
  const response = await ask("POST", "/api/chat", { model, messages, stream: true }, { signal });
  told({ node: response.headers.get("x-llm-router-node") ?? "", id: response.headers.get("x-request-id") ?? "" });
  let last = {};
  for await (const record of records(response.body)) {
    if (record.error) throw new Error(record.error);
    said(record.message?.content ?? "", record.message?.thinking ?? "");
    if (record.done) last = record;
  }
  return last;
}
