// What the router's catalogue says. The live stream tells that it has changed, not what is in it: then it is read anew.

import { models } from "./api.js";
import { store } from "./store.js";

class Catalogue {
  #listeners = new Set();
  #reading = false;
  #again = false;

  constructor() {
    this.entries = new Map(); // name -> as `GET /v0/models` shows it
    this.known = false; // it has been read once
    this.problem = ""; // why it could not be read
  }

  /** Call `listener()` when it is another; the answer ends it. The first who asks has it read. */
  watch(listener) {
    this.#listeners.add(listener);
    if (!this.known) this.read();
    return () => this.#listeners.delete(listener);
  }

  /** Read it. Who asks while that goes on is served by a second look after it, for the first may have been too early. */
  async read() {
    this.#again = true;
    if (this.#reading) return;
    this.#reading = true;
    while (this.#again) {
      this.#again = false;
      await this.#look();
    }
    this.#reading = false;
  }

  async #look() {
    try {
      const list = await models.list();
      this.entries = new Map(list.map((entry) => [entry.name, entry]));
      this.problem = "";
    } catch (error) {
      this.problem = error.message; // what was known stays
    }
    this.known = true;
    for (const listener of this.#listeners) listener();
  }
}

export const catalogue = new Catalogue();

const follow = () => catalogue.known && catalogue.read(); // nobody has asked yet: nothing to keep fresh
store.watch("events", (events) => events.some(({ event }) => event.startsWith("model.")) && follow());
store.watch("hello", follow); // a stream that could not be resumed has missed events
