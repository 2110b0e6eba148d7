// API keys: made, shown once, revoked.

import { keys } from "./api.js";
import { confirmed, open } from "./dialogs.js";
import { h } from "./dom.js";
import { day, span } from "./format.js";
import { t } from "./i18n.js";
import { attempt, button, choice, copyable, field } from "./parts.js";
import { store } from "./store.js";

const LIFETIMES = ["", "30d", "90d", "365d"];

export class KeysSection extends HTMLElement {
  connectedCallback() {
    this.body = h("tbody");
    const heads = ["name", "scope", "models", "created", "expires", "last.used"].map((name, i) => h("th", { scope: "col", class: i > 1 ? "c-wide" : "" }, t(name)));
    this.table = h("table", { class: "table plain" }, h("caption", { class: "visually-hidden" }, t("keys")), h("thead", {}, h("tr", {}, heads, h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, t("actions"))))), this.body);
    this.note = h("p", { class: "hint" });
    this.append(h("div", { class: "card-line" }, h("h2", { class: "card-title" }, t("keys")), button(t("create.key"), () => this.#create(), { kind: "primary", sign: "key" })), h("p", { class: "hint" }, t("keys.hint")), this.table, this.note);
    this.#load();
  }

  async #load() {
    try {
      const list = await keys.list();
      this.body.replaceChildren(...list.map((key) => this.#row(key)));
      this.table.hidden = list.length === 0;
      this.note.textContent = list.length ? "" : t("no.keys");
    } catch (error) {
      this.table.hidden = true;
      this.note.textContent = error.message;
    }
  }

  #row(key) {
    const ago = key.last_used ? t("ago", { time: span(Math.max(1, store.now() - key.last_used)) }) : "–";
    const texts = [t(`scope.${key.scope}`), key.models?.length ? key.models.join(", ") : t("all"), day(key.created), key.expires ? day(key.expires) : t("never"), ago];
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, key.name),
      texts.map((text, i) => h("td", { class: i > 0 ? "c-wide" : "" }, text)),
      h("td", { class: "c-num" }, button(t("revoke"), () => this.#revoke(key), { kind: "danger small", label: t("revoke.key", { name: key.name }) })),
    );
  }

  async #revoke(key) {
    if (!(await confirmed(t("revoke.key", { name: key.name }), t("revoke.hint"), t("revoke")))) return;
    await attempt(() => keys.revoke(key.id));
    await this.#load();
  }

  #create() {
    const name = h("input", { required: true, maxlength: 100, autocomplete: "off" });
    const scope = choice(t("scope"), [["inference", t("scope.inference")], ["admin", t("scope.admin")]], () => {}, "inference");
    const expires = choice(t("expires"), LIFETIMES.map((life) => [life, life ? t("days.n", { count: parseInt(life, 10) }) : t("never")]), () => {});
    const models = h("input", { autocomplete: "off", placeholder: t("all") });
    const submit = async (event) => {
      event.preventDefault();
      const list = models.value.split(",").map((model) => model.trim()).filter(Boolean);
      const wanted = { name: name.value.trim(), scope: scope.value, models: list };
      if (expires.value) wanted.expires = expires.value;
      let made;
      if (!(await attempt(async () => (made = await keys.create(wanted))))) return;
      dialog.close();
      shownOnce(made);
      await this.#load();
    };
    const form = h(
      "form",
      { class: "stack", on: { submit } },
      field(t("name"), name),
      field(t("scope"), scope),
      field(t("expires"), expires),
      field(t("models"), models, t("key.models.hint")),
      h("div", { class: "buttons end" }, h("button", { class: "button primary" }, t("create"))),
    );
    const dialog = open("box", t("create.key"), form);
  }
}

const shownOnce = (made) => open("box", t("key.made"), h("div", { class: "stack" }, h("p", {}, t("key.once")), copyable(made.key, t("copy"))));

customElements.define("lr-keys", KeysSection);
