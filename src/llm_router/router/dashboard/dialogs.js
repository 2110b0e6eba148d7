// What is opened over a page: a pane at the side for details, a box for a question.

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { button } from "./parts.js";

let opened = 0;

/** Open a pane or box with this content; it is gone from the page when it is closed. `kind`: drawer or box. */
export function open(kind, title, content, closed = () => {}) {
  const id = `dialog-title-${(opened += 1)}`; // a question stands over the pane that it is asked in
  const heading = h("h2", { class: "dialog-title", id, tabindex: -1, autofocus: true }, title);
  const close = button("", () => dialog.close(), { kind: "quiet", sign: "close", label: t("close") });
  const body = h("div", { class: "dialog-body" }, content);
  const dialog = h("dialog", { class: kind, "aria-labelledby": id }, h("div", { class: "dialog-head" }, heading, close), body);
  dialog.addEventListener("close", () => {
    said(dialog);
    dialog.remove();
    closed();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** What is being said outlives the pane that it was said in front of. */
function said(dialog) {
  const toasts = dialog.querySelector(".toasts");
  if (toasts) document.querySelector("lr-app").append(toasts);
}

/** Ask before something that cannot be undone. True: go on. `more`: what else is to be decided. */
export function confirmed(title, text, action, ...more) {
  return new Promise((resolve) => {
    let answer = false;
    const yes = () => {
      answer = true;
      dialog.close();
    };
    const buttons = h("div", { class: "buttons end" }, button(t("cancel"), () => dialog.close()), button(action, yes, { kind: "danger" }));
    const dialog = open("box", title, [h("p", {}, text), more, buttons], () => resolve(answer));
  });
}
