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
