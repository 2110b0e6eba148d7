// The frame around the pages: where one is, where one can go, and whether what is shown is live.

import { h, mark, put, show } from "./dom.js";
import { listen } from "./feed.js";
import { language, LANGUAGES, t } from "./i18n.js";
import { brand, icon } from "./icons.js";
import { chooseLanguage, chooseTheme, look, theme, THEMES } from "./look.js";
import { button } from "./parts.js";
import { store } from "./store.js";
import "./fleet-page.js";
import "./models-page.js";
import "./requests-page.js";
import "./try-page.js";
import "./events-page.js";
import "./settings-page.js";

const PAGES = ["fleet", "models", "requests", "try", "events", "settings"];

class App extends HTMLElement {
  connectedCallback() {
    this.#build();
    window.addEventListener("hashchange", () => this.#go());
    look.addEventListener("language", () => this.#build());
    look.addEventListener("theme", () => this.#themes());
    store.watch("link", () => this.#link());
    store.watch("hello", () => this.#hello());
    store.watch("nodes", () => this.#badge());
    store.watch("rates", () => this.#lost());
    listen();
  }

  #build() {
    this.links = PAGES.map((page) => h("a", { href: `#/${page}`, class: "nav-link", data: { page } }, icon(page), h("span", {}, t(`page.${page}`))));
    this.count = h("span", { class: "badge", hidden: true });
    this.links[0].append(this.count);
    this.version = h("span", { class: "version" });
    this.link = h("lr-state", { role: "status", class: "link-state" });
    this.tools = h("div", { class: "side-tools" });
    this.banner = h("div", { class: "banner", role: "status", hidden: true });
    this.heading = h("h1", { tabindex: -1 });
    this.main = h("main", { id: "main" }, this.heading);
    const name = h("a", { class: "brand", href: "#/fleet" }, brand(), h("span", {}, "LLM Router", this.version));
    const side = h("header", { class: "side" }, name, h("nav", { "aria-label": t("pages") }, this.links), h("div", { class: "side-foot" }, this.link, this.tools));
    const skip = h("a", { class: "skip", href: "#main", on: { click: (event) => (event.preventDefault(), this.heading.focus()) } }, t("skip"));
    this.replaceChildren(skip, side, this.banner, this.main, h("div", { class: "toasts", role: "status" }));
    this.page = "";
    this.#themes();
    this.#link();
    this.#hello();
    this.#badge();
    this.#go();
  }

  #themes() {
    const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
    const other = Object.keys(LANGUAGES).find((tag) => tag !== language());
    const sign = { auto: "auto", light: "sun", dark: "moon" }[theme()];
    this.tools.replaceChildren(
      button("", () => chooseTheme(next), { kind: "quiet", sign, label: `${t("theme")}: ${t(`theme.${theme()}`)}` }),
      button(LANGUAGES[other], () => chooseLanguage(other), { kind: "quiet", sign: "globe", label: LANGUAGES[other], lang: other }),
    );
  }

  /** Show the page that the address names: `#/page/argument`. */
  #go() {
    const [, wanted = "", argument = ""] = location.hash.split("/");
    const page = PAGES.includes(wanted) ? wanted : PAGES[0];
    if (page !== this.page) this.#open(page);
    this.content.go?.(decodeURIComponent(argument));
  }

  #open(page) {
    const moved = this.page !== "";
    this.page = page;
    for (const link of this.links) {
      if (link.dataset.page === page) mark(link, "aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    put(this.heading, t(`page.${page}`));
    document.title = `${t(`page.${page}`)} · LLM Router`;
    this.content?.remove();
    this.content = h(`lr-${page}-page`, { class: `page page-${page}` });
    this.main.append(this.content);
    window.scrollTo({ top: 0 });
    if (moved) this.heading.focus({ preventScroll: true }); // so that a screen reader says where one is now
  }

  #link() {
    const state = store.link;
    this.link.set(state, t(`link.${state}`));
    show(this.banner, state === "lost" || state === "signedout");
    if (state === "signedout") this.banner.replaceChildren(h("span", {}, `${t("signedout.hint")} `), h("code", {}, "llm-router login-link"));
    else put(this.banner, t("lost.hint"));
    mark(document.documentElement, "data-link", state);
  }

  #hello() {
    put(this.version, store.hello ? store.hello.version : "");
  }

  /** How many nodes wait to be let in. */
  #badge() {
    const waiting = [...store.nodes.values()].filter((node) => node.state === "pending").length;
    put(this.count, waiting);
    mark(this.count, "aria-label", t("waiting.n", { n: waiting, count: waiting }));
    show(this.count, waiting > 0);
  }

  /** Records that the ledger had to drop: the history has a hole, and whoever reads it should know. */
  #lost() {
    if (!(store.rates.lost > 0) || store.link !== "live") return;
    put(this.banner, t("records.lost", { count: store.rates.lost }));
    show(this.banner, true);
  }
}

customElements.define("lr-app", App);
