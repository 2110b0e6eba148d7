// Settings: how machines join, who may ask, how this router is set, and how these pages look.

import { fill, h } from "./dom.js";
import { duration, span } from "./format.js";
import { LANGUAGES, t, tOr } from "./i18n.js";
import { addNode, joinCommand } from "./join.js";
import { choice, facts, field } from "./parts.js";
import { chooseLanguage, chooseTheme, theme, THEMES } from "./look.js";
import { language } from "./i18n.js";
import { store } from "./store.js";
import "./keys-section.js";

export class SettingsPage extends HTMLElement {
  connectedCallback() {
    this.router = h("section", { class: "card" });
    const join = h("section", { class: "card stack" }, h("div", { class: "card-line" }, h("h2", { class: "card-title" }, t("join.title")), addNode()), h("p", { class: "hint" }, t("join.agent.hint")), joinCommand());
    const keys = h("section", { class: "card" }, h("lr-keys"));
    this.append(join, keys, this.router, look());
    this.unwatch = store.watch("hello", () => this.#draw());
    this.#draw();
  }

  disconnectedCallback() {
    this.unwatch();
  }

  #draw() {
    const { hello } = store;
    if (!hello) return;
    const pairs = [
      [t("version"), hello.version],
      [t("policy"), tOr(`policy.${hello.policy}`, hello.policy)],
      [t("uptime"), span(Math.max(1, store.now() - hello.started))],
      ...(hello.replica ? [[t("replica"), hello.replica]] : []),
      [t("address"), hello.join?.url || location.origin],
      ...Object.entries(hello.settings ?? {}).filter(([name]) => name !== "policy").map(([name, value]) => [tOr(`setting.${name}`, name.replaceAll("_", " ")), shown(name, value)]),
    ];
    fill(this.router, [hello], () => [h("h2", { class: "card-title" }, t("router")), facts(pairs), who(hello.who)]);
  }
}

const SECONDS = /timeout$|^silence$|^trial_after$|^probe_every$/; // the settings that are times

const shown = (name, value) => (SECONDS.test(name) ? duration(value) : typeof value === "boolean" ? t(value ? "yes" : "no") : Array.isArray(value) ? value.join(", ") || "–" : String(value) || "–");

/** Who looks at this; somebody with a session can end it. */
function who(told) {
  if (!told) return null;
  const words = told.local ? t("who.local") : t("who.name", { name: told.name || t(`scope.${told.scope}`) });
  const out = h("form", { method: "post", action: "/logout" }, h("button", { class: "button" }, t("sign.out")));
  return h("div", { class: "card-line who" }, h("span", { class: "hint" }, words), told.local ? null : out);
}

function look() {
  const themes = choice(t("theme"), THEMES.map((name) => [name, t(`theme.${name}`)]), chooseTheme, theme());
  const languages = choice(t("language"), Object.entries(LANGUAGES), chooseLanguage, language());
  return h("section", { class: "card" }, h("h2", { class: "card-title" }, t("look")), h("div", { class: "grid-form two" }, field(t("theme"), themes), field(t("language"), languages)));
}

customElements.define("lr-settings-page", SettingsPage);
