// What is opened over a page: a pane at the side for details, a box for a question.

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { button } from "./parts.js";

/** Open a pane or box with this content; it is gone from the page when it is closed. `kind`: drawer or box. */
export function open(kind, title, content, closed = () => {}) {
  const heading = h("h2", { class: "dialog-title", id: "dialog-title", tabindex: -1, autofocus: true }, title);
  const close = button("", () => dialog.close(), { kind: "quiet", sign: "close", label: t("close") });
  const body = h("div", { class: "dialog-body" }, content);
  const dialog = h("dialog", { class: kind, "aria-labelledby": "dialog-title" }, h("header", { class: "dialog-head" }, heading, close), body);
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask before something that cannot be undone. True: go on. */
export function confirmed(title, text, action) {
  return new Promise((resolve) => {
    let answer = false;
    const yes = () => {
      answer = true;
      dialog.close();
    };
    const buttons = h("div", { class: "buttons end" }, button(t("cancel"), () => dialog.close()), button(action, yes, { kind: "danger" }));
    const dialog = open("box", title, [h("p", {}, text), buttons], () => resolve(answer));
  });
}
