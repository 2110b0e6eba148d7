// The few signs that the pages use: 20 by 20, drawn with a stroke in the colour of the text around them.

import { svg } from "./dom.js";

const PATHS = {
  fleet: ["M3 4.5h14v4H3z", "M3 11.5h14v4H3z", "M6 6.5h.01", "M6 13.5h.01"],
  models: ["M10 2.5l6.5 3.7v7.6L10 17.5l-6.5-3.7V6.2z", "M3.7 6.3L10 10l6.3-3.7", "M10 10v7.3"],
  requests: ["M3 6h11", "M11 3l3 3-3 3", "M17 14H6", "M9 11l-3 3 3 3"],
  try: ["M3.5 4h13v9.5h-7l-3.5 3v-3h-2.5z", "M7 8h6"],
  events: ["M4 5h12", "M4 10h12", "M4 15h7"],
  settings: ["M3 6h8", "M15 6h2", "M3 14h2", "M9 14h8", "M13 4v4", "M7 12v4"],
  plus: ["M10 4v12", "M4 10h12"],
  search: ["M9 3.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11", "M13 13l4 4"],
  close: ["M5 5l10 10", "M15 5L5 15"],
  copy: ["M7 7h9v9H7z", "M4 13V4h9"],
  check: ["M4 10.5l4 4 8-9"],
  sun: ["M10 6.5a3.5 3.5 0 1 1 0 7a3.5 3.5 0 1 1 0-7", "M10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.4l1.1-1.1"],
  moon: ["M16 11.5A6.5 6.5 0 0 1 8.5 4a6.5 6.5 0 1 0 7.5 7.5z"],
  auto: ["M10 3a7 7 0 1 1 0 14a7 7 0 1 1 0-14", "M10 3v14", "M10 6h5M10 10h7M10 14h5"],
  globe: ["M10 3a7 7 0 1 1 0 14a7 7 0 1 1 0-14", "M3 10h14", "M10 3c-4.5 4.5-4.5 9.5 0 14c4.5-4.5 4.5-9.5 0-14"],
  cards: ["M3 3h6v6H3zM11 3h6v6h-6zM3 11h6v6H3zM11 11h6v6h-6z"],
  rows: ["M3 5h14M3 10h14M3 15h14"],
  download: ["M10 3v10", "M6 9.5l4 4 4-4", "M4 17h12"],
  send: ["M10 16V4", "M5 9l5-5 5 5"],
  stop: ["M6 6h8v8H6z"],
  key: ["M7 9a3.5 3.5 0 1 1 0 7a3.5 3.5 0 1 1 0-7", "M9.5 10L16 3.5M13 6.5l2.5 2.5"],
  warning: ["M10 3.5l7.5 13h-15z", "M10 8v4", "M10 14.3h.01"],
  out: ["M8 4H4v12h4", "M12 6.5l4 3.5-4 3.5", "M7.5 10H16"],
};

/** The sign; it says nothing to a screen reader, what stands beside it does. */
export function icon(name) {
  const paths = PATHS[name].map((d) => svg("path", { d }));
  return svg("svg", { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true", focusable: "false" }, paths);
}

/** The mark of the house: one way that becomes three. */
export function brand() {
  return svg(
    "svg",
    { class: "brand-mark", viewBox: "0 0 32 32", "aria-hidden": "true", focusable: "false" },
    svg("rect", { width: 32, height: 32, rx: 8 }),
    svg("path", { d: "M7 16h6c4 0 4-7 9-7M13 16c4 0 4 7 9 7M13 16h9" }),
    svg("circle", { cx: 7, cy: 16, r: 2.6 }),
  );
}
