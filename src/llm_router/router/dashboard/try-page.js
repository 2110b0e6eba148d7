// Try it: a conversation with any model, and which node answers how fast.

import { call } from "./api.js";
import { chat } from "./chat.js";
import { h, put, show } from "./dom.js";
import { byName, count, duration, rate } from "./format.js";
import { t } from "./i18n.js";
import { explain } from "./explain.js";
import { button, choice } from "./parts.js";
import { icon } from "./icons.js";
import { upOf, whereIs } from "./model-facts.js";
import { progressText } from "./node-facts.js";
import { store } from "./store.js";

const kept = { model: "", messages: [], turns: [] }; // a conversation outlives a look at another page

export class TryPage extends HTMLElement {
  connectedCallback() {
    this.log = h("div", { class: "chat-log", role: "log", "aria-label": t("conversation"), tabindex: 0 });
    this.hello = h("div", { class: "empty" }, h("h2", {}, t("try.title")), h("p", {}, t("try.hint")));
    this.why = h("details", { class: "why" }, h("summary", {}, t("why.node")), (this.reasons = h("div")));
    this.why.addEventListener("toggle", () => this.#explain());
    this.append(this.#toolbar(), this.why, this.log, this.#form());
    this.log.append(this.hello, ...kept.turns);
    show(this.hello, kept.turns.length === 0);
    this.unwatch = [store.watch("nodes", () => this.#models()), store.watch("requests", (records) => this.#measured(records))];
    this.#models();
    this.#running(false);
  }

  disconnectedCallback() {
    this.control?.abort();
    for (const stop of this.unwatch) stop();
  }

  /** `#/try/<model>` chooses it. */
  go(model) {
    if (model) kept.model = model;
    this.#models(true);
    this.input.focus();
  }

  #toolbar() {
    this.picker = h("span", { class: "picker" });
    this.first = h("span", { class: "row-note", hidden: true }, icon("download"), t("fetched.first"));
    const fresh = button(t("new.chat"), () => this.#clear(), { sign: "plus" });
    return h("div", { class: "toolbar" }, h("span", { class: "field-label" }, t("model")), this.picker, this.first, h("span", { class: "spacer" }), fresh);
  }

  /** The models that can be asked for, rebuilt only if they are others. */
  #models(again = false) {
    this.#note();
    const up = [...store.nodes.values()].filter((node) => node.state === "online" || node.state === "suspect");
    const names = [...new Set(up.flatMap((node) => node.models))].sort(byName);
    const key = names.join("\n");
    if (this.shown === key && !again) return;
    this.shown = key;
    if (names.length && !names.includes(kept.model)) kept.model = names[0]; // none yet: an address may have named one
    const options = names.length ? names.map((name) => [name, name]) : [["", t("no.model")]];
    this.picker.replaceChildren(choice(t("model"), options, (value) => this.#choose(value), kept.model));
    this.#note();
    this.#explain();
  }

  /** Whether a node has it, or the first message will have it fetched. */
  #note() {
    const at = whereIs(kept.model);
    show(this.first, upOf(at.held).length === 0 && upOf(at.offered).length > 0);
  }

  #choose(model) {
    kept.model = model;
    this.#note();
    this.#explain();
  }

  async #explain() {
    if (!this.why.open || !kept.model) return;
    const asked = await call("POST", "/v0/routing/explain", { model: kept.model, messages: kept.messages }).catch((error) => error);
    this.reasons.replaceChildren(asked instanceof Error ? h("p", { class: "error-text" }, asked.message) : explain(asked));
  }

  #form() {
    this.input = h("textarea", { rows: 2, placeholder: t("message"), "aria-label": t("message") });
    this.input.addEventListener("keydown", (event) => {
      // Enter sends; while an input method composes (Japanese), it chooses a word instead.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    this.sendButton = h("button", { class: "button primary round", "aria-label": t("send"), title: t("send") }, icon("send"));
    this.stopButton = button("", () => this.control.abort(), { kind: "round", sign: "stop", label: t("stop") });
    const submit = (event) => (event.preventDefault(), this.#send());
    return h("form", { class: "chat-form", on: { submit } }, this.input, this.sendButton, this.stopButton);
  }

  #clear() {
    this.control?.abort();
    kept.messages = [];
    kept.turns = [];
    this.log.replaceChildren(this.hello);
    show(this.hello, true);
    this.input.focus();
  }

  #running(yes) {
    this.busy = yes;
    show(this.sendButton, !yes);
    show(this.stopButton, yes);
    this.log.setAttribute("aria-busy", yes);
  }

  #add(turn) {
    show(this.hello, false);
    kept.turns.push(turn);
    this.log.append(turn);
    turn.scrollIntoView({ block: "end" });
    return turn;
  }

  async #send() {
    const content = this.input.value.trim();
    if (!content || this.busy || !kept.model) return;
    this.input.value = "";
    this.#add(h("div", { class: "turn user" }, h("p", { class: "bubble" }, content)));
    kept.messages.push({ role: "user", content });
    const answer = this.#add(h("lr-answer"));
    this.control = new AbortController();
    this.#running(true);
    await answer.run(kept.model, kept.messages, this.control.signal);
    if (answer.content) kept.messages.push({ role: "assistant", content: answer.content });
    else kept.messages.pop(); // nothing was answered: a next question stands alone
    this.#running(false);
    if (this.isConnected) this.input.focus();
  }

  /** The router's own measure of an answer is better than ours, and it knows names that a header cannot carry. */
  #measured(records) {
    for (const turn of kept.turns) {
      const record = turn.id && records.find(({ id }) => id === turn.id);
      if (record?.node) turn.answeredBy = record.node;
      if (record) turn.foot();
    }
  }
}

/** One answer: what was said, by which node, and how fast. */
export class Answer extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    this.classList.add("turn", "answer");
    this.content = "";
    this.text = h("p", { class: "bubble" });
    this.thoughts = h("p", { class: "thoughts-text" });
    this.thinking = h("details", { class: "thoughts", hidden: true }, h("summary", {}, t("thinking")), this.thoughts);
    this.facts = h("p", { class: "answer-facts" });
    this.fetching = h("div", { class: "progresses fetching", hidden: true }, h("lr-progress"));
    this.append(this.thinking, this.text, this.fetching, this.facts);
  }

  async run(model, messages, signal) {
    const began = performance.now();
    this.classList.add("running");
    put(this.facts, t("asking", { model }));
    const told = ({ node, id }) => {
      this.answeredBy = node;
      this.id = id;
      this.foot();
    };
    const said = (content, thinking) => this.#said(content, thinking, began);
    const unwatch = store.watch("nodes", () => this.#fetching(model));
    try {
      this.#ended(await chat(model, messages, signal, told, said), began);
    } catch (error) {
      this.append(h("p", { class: error.name === "AbortError" ? "hint" : "error-text" }, error.name === "AbortError" ? t("stopped") : error.message));
    }
    unwatch();
    show(this.fetching, false);
    this.classList.remove("running");
    this.foot();
  }

  /** Before the first word: a node may have to fetch the model, and says how far it is. */
  #fetching(model) {
    const [on] = this.first === undefined ? whereIs(model).fetching : [];
    show(this.fetching, on !== undefined);
    if (on) this.fetching.firstChild.set({ ...on.what, name: t("fetched.by", { node: on.node.name }) }, progressText(on.what));
  }

  #said(content, thinking, began) {
    if (!content && !thinking) return;
    this.first ??= (performance.now() - began) / 1000;
    show(this.fetching, false);
    this.pieces = (this.pieces ?? 0) + 1;
    this.seconds = (performance.now() - began) / 1000;
    this.content += content;
    this.text.append(content);
    this.thoughts.append(thinking);
    show(this.thinking, this.thoughts.textContent !== "");
    this.foot();
    if (this.parentElement) this.facts.scrollIntoView({ block: "nearest" });
  }

  #ended(last, began) {
    this.pieces = last.eval_count || this.pieces;
    this.seconds = (performance.now() - began) / 1000;
  }

  /** What is known of it so far. */
  foot() {
    const speed = this.pieces > 1 ? this.pieces / Math.max(0.001, this.seconds - this.first) : 0;
    const parts = [
      this.answeredBy && h("span", { class: "answered-by" }, icon("fleet"), h("span", {}, this.answeredBy)),
      this.first && t("first.token", { time: duration(this.first) }),
      this.pieces && t("tokens.n", { n: this.pieces, count: count(this.pieces) }),
      speed && t("tokens.per.second", { rate: rate(speed) }),
    ].filter(Boolean);
    this.facts.replaceChildren(...parts.map((part) => (typeof part === "string" ? h("span", {}, part) : part)));
  }
}

customElements.define("lr-try-page", TryPage);
customElements.define("lr-answer", Answer);
