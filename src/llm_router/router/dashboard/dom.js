// Elements made by hand. What comes from machines, models and errors is untrusted: it only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: class, on {event: listener}, data {name: value}, vars {"--x": value}, else attributes. */
export function h(tag, props = {}, ...children) {
  return dress(document.createElement(tag), props, children);
}

/** Likewise, of a drawing. */
export function svg(tag, props = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), props, children);
}

function dress(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "vars") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Set a text, if it is another: what does not change is not laid out again. */
export function put(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Build an element's children anew when `key` is another than last time. Focus and selections survive otherwise. */
export function fill(element, key, build) {
  const wanted = typeof key === "string" ? key : JSON.stringify(key);
  if (element.filledWith === wanted) return;
  element.filledWith = wanted;
  element.replaceChildren(...[build()].flat(3).filter(Boolean));
}

/** Show or hide. */
export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

/** Set an attribute, if it is another. */
export function mark(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Set a custom property, if it is another. */
export function vary(element, name, value) {
  if (element.style.getPropertyValue(name) !== String(value)) element.style.setProperty(name, value);
}
