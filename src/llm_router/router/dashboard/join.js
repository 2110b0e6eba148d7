// How a machine becomes a node: the line to run there, or a server's address to attach here.

import { call, nodes } from "./api.js";
import { open } from "./dialogs.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { attempt, button, choice, copyable, field } from "./parts.js";
import { store } from "./store.js";

/** The line to run on another machine, with its button; fetched, for it may hold a token. */
export function joinCommand() {
  const box = h("div", { class: "join" }, copyable(store.hello?.join?.command || fallback(), t("join.command")));
  call("GET", "/v0/join").then(
    (join) => box.replaceChildren(copyable(join.command, t("join.command"))),
    () => {}, // not told to everybody; what is shown is what a person needs besides the token
  );
  return box;
}

const fallback = () => `llm-router node --router ${location.origin}`;

/** A box with both ways. */
export function openJoin() {
  const dialog = open("box", t("add.node"), [
    h("h3", {}, t("join.agent")),
    h("p", { class: "hint" }, t("join.agent.hint")),
    joinCommand(),
    h("h3", {}, t("join.attach")),
    h("p", { class: "hint" }, t("join.attach.hint")),
    attachForm(() => dialog.close()),
  ]);
}

function attachForm(done) {
  const url = h("input", { type: "text", inputmode: "url", required: true, placeholder: "http://192.168.1.20:11434", autocomplete: "off", spellcheck: "false" });
  const name = h("input", { type: "text", maxlength: 100, autocomplete: "off" });
  const kind = choice(t("kind"), [["ollama", "Ollama"], ["openai", t("kind.openai")]], () => {}, "ollama");
  const submit = async (event) => {
    event.preventDefault();
    const fields = { url: url.value.trim(), kind: kind.value, name: name.value.trim() };
    if (await attempt(() => nodes.attach(fields), t("attached"))) done();
  };
  return h(
    "form",
    { class: "grid-form", on: { submit } },
    field(t("address"), url),
    field(t("kind"), kind),
    field(t("display.name"), name),
    h("div", { class: "buttons end" }, h("button", { class: "button primary" }, t("attach"))),
  );
}

/** The button that opens it. */
export const addNode = () => button(t("add.node"), openJoin, { kind: "primary", sign: "plus" });
