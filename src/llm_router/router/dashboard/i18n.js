// The words of the pages. Browser's language first, then what was chosen here, which is remembered.

import en from "./en.js";
import ja from "./ja.js";
import { recall, remember } from "./memory.js";

/** What can be chosen, each by its own name. */
export const LANGUAGES = { en: "English", ja: "日本語" };

const WORDS = { en, ja };
const browsers = navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in WORDS);
let chosen = recall("language", Object.keys(WORDS)) ?? browsers ?? "en";
document.documentElement.lang = chosen;

/** The language of the pages. */
export const language = () => chosen;

/** Choose it. Whoever shows words builds them anew: `main.js` sees to it. */
export function speak(tag) {
  chosen = tag;
  remember("language", tag);
  document.documentElement.lang = tag;
}

/** The words for `key`, with {names} replaced. With a number `n`, `key.one` and `key.other` are told apart. */
export function t(key, values = {}) {
  const form = "n" in values && values.n === 1 ? `${key}.one` : `${key}.other`;
  const text = WORDS[chosen][form] ?? WORDS[chosen][`${key}.other`] ?? WORDS[chosen][key] ?? WORDS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Likewise, or `otherwise` where there are no words for it: names that a newer router may have invented. */
export const tOr = (key, otherwise) => (key in WORDS[chosen] ? t(key) : otherwise);
