// What this browser remembers of a person's choices. A browser that keeps nothing is one whose choices last a page.

const PREFIX = "llm-router.";

/** The choice, or undefined if there is none or it is not one of `allowed`. */
export function recall(name, allowed) {
  try {
    const value = localStorage.getItem(PREFIX + name);
    return allowed.includes(value) ? value : undefined;
  } catch {
    return undefined; // storage is switched off
  }
}

/** Keep a choice. */
export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // storage is switched off or full: the choice holds until the page is closed
  }
}
