// A model is added to the catalogue: from where, which of its files, under which name, and where it should lie.

import { models } from "./api.js";
import { catalogue } from "./catalogue.js";
import { open } from "./dialogs.js";
import { h, put, show } from "./dom.js";
import { t } from "./i18n.js";
import { button, choice, field, say } from "./parts.js";
import { openModel } from "./model-pane.js";
import "./placement.js";

const POLICIES = ["quality", "memory", "speed"]; // by which the router chooses one of several files

/** The button that opens the form. */
export const addModel = () => button(t("add.model"), openAdd, { kind: "primary", sign: "plus" });

function openAdd() {
  const form = h("lr-add-model");
  form.dialog = open("box", t("add.model"), form);
}

export class AddModel extends HTMLElement {
  connectedCallback() {
    const plain = { autocomplete: "off", spellcheck: "false", autocapitalize: "none" };
    const forget = () => this.problem.replaceChildren(); // what could be chosen was of another source, or is typed now
    this.source = h("input", { ...plain, required: true, placeholder: "Qwen/Qwen3-8B-GGUF", on: { input: forget } });
    this.which = choice(t("which.file"), ["ask", ...POLICIES, "named"].map((value) => [value, t(`which.${value}`)]), () => (forget(), this.#fit()));
    this.file = h("input", { ...plain, placeholder: "qwen3-8b-q4_k_m.gguf", on: { input: forget } });
    this.fileField = field(t("file"), this.file);
    this.name = h("input", { ...plain, maxlength: 255, placeholder: t("name.from.source") });
    this.display = h("input", { autocomplete: "off", maxlength: 100 });
    this.template = h("textarea", { rows: 3, spellcheck: "false" });
    this.placement = h("lr-placement");
    this.problem = h("div", { class: "problem", role: "alert" });
    this.submit = h("button", { class: "button primary" }, t("add"));
    this.append(this.#form());
    this.#fit();
  }

  #form() {
    const more = h("details", { class: "more-fields" }, h("summary", {}, t("more.fields")), h("div", { class: "stack" }, field(t("display.name"), this.display), field(t("chat.template"), this.template, t("chat.template.hint"))));
    const submit = (event) => (event.preventDefault(), this.#send());
    return h(
      "form",
      { class: "stack", on: { submit } },
      field(t("source"), this.source, t("source.hint")),
      h("div", { class: "grid-form two even" }, field(t("which.file"), this.which), field(t("name"), this.name)),
      this.fileField,
      this.placement,
      more,
      this.problem,
      h("div", { class: "buttons end" }, button(t("cancel"), () => this.dialog.close()), this.submit),
    );
  }

  #fit() {
    const named = this.which.value === "named";
    show(this.fileField, named);
    this.file.required = named;
    this.file.disabled = !named;
  }

  #fields() {
    const which = this.which.value;
    const told = {
      ...sourceOf(this.source.value.trim()),
      file: this.problem.querySelector("input:checked")?.value ?? (which === "named" ? this.file.value.trim() : ""),
      policy: POLICIES.includes(which) ? which : "",
      name: this.name.value.trim(),
      display_name: this.display.value.trim(),
      chat_template: this.template.value,
    };
    if (told.file) delete told.policy;
    const given = Object.entries(told).filter(([, value]) => value);
    return { ...Object.fromEntries(given), placement: this.placement.value };
  }

  async #send() {
    this.#busy(true);
    try {
      const made = await models.add(this.#fields());
      say(t("model.added", { name: made.display_name || made.name }), "good");
      this.dialog.close();
      await catalogue.read();
      openModel(made.name);
    } catch (error) {
      this.#refused(error.message);
    }
    this.#busy(false);
  }

  #busy(yes) {
    this.submit.disabled = yes; // the hub may take seconds to list a large repository
    put(this.submit, t(yes ? "adding" : "add"));
  }

  /** What the router says; where it names several files, they can be chosen from. */
  #refused(message) {
    const files = filesIn(message, this.file.value.trim());
    const words = h("p", { class: "error-text" }, files.length > 1 ? beforeFiles(message, files) : message);
    this.problem.replaceChildren(words, ...(files.length > 1 ? [fileChoice(files)] : []));
    (this.problem.querySelector("input") ?? this.source).focus();
    this.problem.scrollIntoView({ block: "nearest" });
  }
}

/** What was typed, as the router wants it: an address is a file's or a page's of the hub, and the router tells which. */
const sourceOf = (text) => (text.includes("://") ? { url: text } : { repo: text });

const FILE = /([^\s,;:"'`()[\]]+\.(?:gguf|safetensors))(?!\.?\w)(?: \(([^()]*)\))?/gi;

/** The files that a message names, each once and with its size where that stands behind it; not the one asked for. */
export function filesIn(message, asked = "") {
  const found = [...message.matchAll(FILE)].map(([, file, size = ""]) => [file, size]);
  return [...new Map(found)].filter(([file]) => file !== asked).map(([file, size]) => ({ file, size }));
}

/** The sentences of a message that stand before its list of files. */
function beforeFiles(message, [{ file }]) {
  const before = message.slice(0, message.indexOf(file));
  return before.slice(0, before.lastIndexOf(". ") + 1) || before.replace(/[\s:;,([-]*$/, "") || message;
}

function fileChoice(files) {
  const option = ({ file, size }, i) =>
    h("label", { class: "tick" }, h("input", { type: "radio", name: "file", value: file, checked: i === 0 }), h("span", { class: "file-name" }, file), size && h("span", { class: "file-size" }, size));
  return h("fieldset", { class: "field" }, h("legend", { class: "field-label" }, t("choose.file")), h("div", { class: "pins" }, files.map(option)));
}

customElements.define("lr-add-model", AddModel);
