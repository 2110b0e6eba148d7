// Calls to the router. A refusal becomes an ApiError with the words that the router chose.

/** `status` 0: nobody answered. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Told of every 401: the session has ended. */
export const signedOut = new EventTarget();

/** A response whose status is good; its body is the caller's. */
export async function ask(method, path, body, options = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", error.message);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** What a call answered, as JSON; undefined where there is nothing. */
export async function call(method, path, body) {
  const text = await (await ask(method, path, body)).text();
  return text ? JSON.parse(text) : undefined;
}

/** The records of a body that has one per line, as JSON. */
export async function* records(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) if (line.trim()) yield JSON.parse(line);
    if (done) return;
  }
}

async function refusal(response) {
  if (response.status === 401) signedOut.dispatchEvent(new Event("signedout"));
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    if (typeof error === "string") return new ApiError(response.status, "", error); // Ollama's shape
    return new ApiError(response.status, error.code, error.message);
  } catch {
    return new ApiError(response.status, "", text.slice(0, 200) || `HTTP ${response.status}`);
  }
}

const idOf = encodeURIComponent;

export const nodes = {
  change: (id, fields) => call("PATCH", `/v0/nodes/${idOf(id)}`, fields),
  remove: (id) => call("DELETE", `/v0/nodes/${idOf(id)}`),
  approve: (id) => call("POST", `/v0/nodes/${idOf(id)}/approve`),
  lift: (id, model) => call("DELETE", `/v0/nodes/${idOf(id)}/exclusions/${idOf(model)}`),
  attach: (fields) => call("POST", "/v0/nodes/attach", fields),
};

const pathOf = (model) => model.split("/").map(encodeURIComponent).join("/"); // its slashes are the path's

/** The catalogue, and what Ollama's own endpoints do on one node. */
export const models = {
  list: () => call("GET", "/v0/models"),
  add: (fields) => call("POST", "/v0/models", fields),
  change: (name, fields) => call("PATCH", `/v0/models/${pathOf(name)}`, fields),
  remove: (name, files) => call("DELETE", `/v0/models/${pathOf(name)}${query({ files })}`),
  pull: async (name, node) => records((await ask("POST", `/api/pull${query({ node })}`, { model: name })).body),
  erase: (name, node) => call("DELETE", `/api/delete${query({ node })}`, { model: name }),
};

export const keys = {
  list: () => call("GET", "/v0/keys"),
  create: (fields) => call("POST", "/v0/keys", fields),
  revoke: (id) => call("DELETE", `/v0/keys/${idOf(id)}`),
};

/** What is not empty of `fields`, as a query. */
export function query(fields) {
  const told = Object.entries(fields).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return told.length ? `?${new URLSearchParams(told)}` : "";
}
