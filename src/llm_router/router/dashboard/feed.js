// The live stream of /v0/events. A browser resumes it by itself after most interruptions; after the others, we do.

import { call, query, signedOut } from "./api.js";
import { SECONDS, store } from "./store.js";

const URL_OF_STREAM = "/v0/events";
const FIRST_PAUSE = 500; // ms before the first new attempt: a router that restarts is back in about a second
const LONGEST_PAUSE = 10_000; // ms; a person who looks at a dead page waits this long at most
const PATIENCE = 1500; // ms; the router ends every stream from time to time, and who is back at once has lost nothing
const SILENCE = 60_000; // ms without a message: a connection can die without a word, and a resume costs little
const STILL_AFTER = 1600; // ms without rates (they come every second while anything changes): all is quiet

let source = null;
let last = ""; // the id of the last message, for a resume that the browser does not do itself
let pause = FIRST_PAUSE;
let heard = 0;
let rated = 0;
let lost = 0; // the timer that will say so

const HANDLERS = {
  hello: (data) => {
    const first = !store.hello;
    store.greeted(data);
    if (first) recall();
  },
  nodes: (data) => store.replaced(data),
  node: (data) => store.changed(data),
  gone: (data) => store.removed(data.id),
  requests: (data) => store.ended(data),
  event: (data) => store.happened(data),
  rates: (data) => {
    rated = performance.now();
    store.rated(data);
  },
};

/** Listen until the page is closed. */
export function listen() {
  connect();
  setInterval(check, 1000);
  signedOut.addEventListener("signedout", () => store.linked("signedout"));
  window.addEventListener("online", () => source.readyState === EventSource.OPEN || connect());
}

function connect() {
  source?.close();
  source = new EventSource(last ? `${URL_OF_STREAM}?since=${encodeURIComponent(last)}` : URL_OF_STREAM);
  heard = performance.now();
  source.onopen = opened;
  source.onerror = failed;
  for (const [name, handle] of Object.entries(HANDLERS)) {
    source.addEventListener(name, (message) => {
      heard = performance.now();
      if (message.lastEventId) last = message.lastEventId;
      handle(JSON.parse(message.data));
    });
  }
}

function opened() {
  pause = FIRST_PAUSE;
  heard = performance.now();
  clearTimeout(lost);
  lost = 0;
  store.linked("live");
}

function failed() {
  lost ||= setTimeout(() => store.link === "signedout" || store.linked("lost"), PATIENCE);
  if (source.readyState === EventSource.CLOSED) again(); // refused: the browser gives up on these
}

function again() {
  setTimeout(connect, pause * (0.5 + Math.random() / 2)); // not all pages at the same moment
  pause = Math.min(LONGEST_PAUSE, pause * 2);
  probe();
}

/** An EventSource does not tell why it was refused; a plain request does. */
async function probe() {
  const response = await fetch("/v0/join", { headers: { Accept: "application/json" } }).catch(() => null);
  if (response?.status === 401) signedOut.dispatchEvent(new Event("signedout"));
}

async function recall() {
  const since = Math.floor(store.now() - SECONDS);
  const records = await call("GET", `/v0/requests${query({ since, limit: 1000 })}`).catch(() => []);
  store.recalled(records);
}

function check() {
  const now = performance.now();
  if (source.readyState === EventSource.OPEN && now - heard > SILENCE) connect();
  if (store.hello && now - rated > STILL_AFTER) store.rested();
}
