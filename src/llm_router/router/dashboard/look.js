// Light or dark, and the language: what a person chose for these pages.

import { speak } from "./i18n.js";
import { recall, remember } from "./memory.js";

/** What can be chosen; "auto" is what the system says. */
export const THEMES = ["auto", "light", "dark"];

/** Told when the pages have to be built anew. */
export const look = new EventTarget();

export const theme = () => recall("theme", THEMES) ?? "auto";

/** Light, dark, or what the system says. */
export function chooseTheme(name) {
  remember("theme", name);
  apply(name);
  look.dispatchEvent(new Event("theme"));
}

/** One of the languages. */
export function chooseLanguage(tag) {
  speak(tag);
  look.dispatchEvent(new Event("language"));
}

function apply(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

apply(theme());
