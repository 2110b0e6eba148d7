// Numbers, sizes and times as people read them, in the language that was chosen.

import { language, t } from "./i18n.js";

const made = new Map();

function formatter(kind, options) {
  const key = language() + kind.name + JSON.stringify(options);
  if (!made.has(key)) made.set(key, new kind(language(), options));
  return made.get(key);
}

const number = (value, digits, least = 0) =>
  formatter(Intl.NumberFormat, { maximumFractionDigits: digits, minimumFractionDigits: least }).format(value);

/** 12 345 */
export const count = (value) => number(value, 0);

/** 1.2M, where there is little room. */
export const brief = (value) =>
  value < 10_000 ? count(value) : formatter(Intl.NumberFormat, { notation: "compact", maximumFractionDigits: 1 }).format(value);

/** Per second: one digit after the point while it is small, always so many that nothing moves. */
export const rate = (value) => (value < 100 ? number(value, 1, 1) : count(value));

/** 0…100 */
export const percent = (value) => `${count(Math.min(100, Math.max(0, value)))}%`;

const SIZES = ["B", "kB", "MB", "GB", "TB"];

/** Bytes, in powers of 1000 as disks and downloads are counted. */
export function bytes(value) {
  const step = Math.min(SIZES.length - 1, value < 1 ? 0 : Math.floor(Math.log10(value) / 3));
  return `${number(value / 1000 ** step, step > 2 ? 1 : 0)} ${SIZES[step]}`;
}

const MEMORY = 2 ** 30;

/** Memory, in powers of 1024 as it is sold. */
export const memory = (value) => `${number(value / MEMORY, value < 10 * MEMORY ? 1 : 0)} GB`;

/** Memory in use: "18/24 GB". */
export const memoryOf = (used, total) => `${number(used / MEMORY, total < 10 * MEMORY ? 1 : 0)}/${memory(total)}`;

/** How long something took: seconds in, "340 ms", "1.25 s", "2 min 5 s" out. */
export function duration(seconds) {
  if (!(seconds > 0)) return "–";
  if (seconds < 1) return `${count(Math.max(1, seconds * 1000))} ms`;
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 2 : 1, 1)} ${t("unit.s")}`;
  return span(seconds);
}

/** How long something has lasted, in its two largest units. */
export function span(seconds) {
  const parts = [
    [Math.floor(seconds / 86400), t("unit.d")],
    [Math.floor(seconds / 3600) % 24, t("unit.h")],
    [Math.floor(seconds / 60) % 60, t("unit.min")],
    [Math.floor(seconds) % 60, t("unit.s")],
  ];
  const first = parts.findIndex(([n]) => n > 0);
  if (first < 0) return `0 ${t("unit.s")}`;
  return parts
    .slice(first, first + 2)
    .filter(([n], i) => n > 0 || i === 0)
    .map(([n, unit]) => `${n} ${unit}`)
    .join(" ");
}

/** A moment, in seconds since the epoch: the time, and the day if it is not today's. */
export function moment(at) {
  const date = new Date(at * 1000);
  const today = date.toDateString() === new Date().toDateString();
  const day = today ? {} : { month: "short", day: "numeric" };
  return formatter(Intl.DateTimeFormat, { ...day, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(date);
}

/** A moment in full. */
export const fully = (at) =>
  formatter(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "medium" }).format(new Date(at * 1000));

/** A day. */
export const day = (at) => formatter(Intl.DateTimeFormat, { dateStyle: "medium" }).format(new Date(at * 1000));

const collator = new Intl.Collator(undefined, { numeric: true });

/** node-2 before node-10. */
export const byName = collator.compare;
