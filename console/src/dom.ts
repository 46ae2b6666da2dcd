/** The element of a page with this id; a page without it is a mistake of ours. */
export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`cannot find #${id}`);
  return found as T;
}

/** Makes an element with a class and text. */
export function make(tag: string, className: string, text: string): HTMLElement {
  const made = document.createElement(tag);
  if (className !== "") made.className = className;
  made.textContent = text;
  return made;
}
