// Puts what is shown on the page: the pixels and every word on and beside them, in one step.

import { isAway, nameOf, siteOf } from "./viewer-loading.js";

const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };

/** ``Image 3 / 40``: a series of several frames counts frames. */
export const positionOf = (shown, between = "/") => (shown.index < 0 ? "" : `${shown.unit} ${shown.index + 1} ${between} ${shown.count}`);

export class Drawing {
  #canvas = null;
  view = { zoom: 1, x: 0, y: 0 };

  constructor(page) {
    this.page = page; // the viewer's section; its parts are found by data-viewer
    this.part = Object.fromEntries([...page.querySelectorAll("[data-viewer]")].map((node) => [node.dataset.viewer, node]));
    this.patient = page.dataset.patient.replace(/(\d) (?=\d)/g, "$1\u00a0"); // a number is not broken
  }

  get size() {
    const { clientWidth, clientHeight } = this.part.stage;
    return [clientWidth * this.view.zoom, clientHeight * this.view.zoom];
  }

  /** Everything at once: no `await` in here, so that the browser never paints half of it. */
  paint(shown) {
    this.#pixels(shown);
    const label = shown.series?.label || "";
    put(this.part.patient, this.patient);
    put(this.part.position, positionOf(shown));
    put(this.part.series, label);
    put(this.part.window, shown.bitmap && shown.window?.name ? shown.window.name : "");
    put(this.part.caption, label);
    for (const link of this.page.querySelectorAll(".series")) {
      const current = link.dataset.series === shown.series?.uid;
      link.classList.toggle("series--current", current);
      if (current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    this.explain(shown.why);
  }

  #pixels(shown) {
    if (!shown.bitmap) {
      this.#canvas?.remove();
      this.#canvas = null;
      return;
    }
    const canvas = this.#canvas ?? document.createElement("canvas");
    if (canvas.width !== shown.bitmap.width || canvas.height !== shown.bitmap.height) {
      canvas.width = shown.bitmap.width;
      canvas.height = shown.bitmap.height;
    }
    canvas.getContext("2d").drawImage(shown.bitmap, 0, 0);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", [positionOf(shown, "of"), shown.series.label, shown.window?.name].filter(Boolean).join(", "));
    if (!this.#canvas) this.part.picture.replaceChildren(canvas);
    this.#canvas = canvas;
    this.place();
  }

  /** Why there is no picture, and by whom; nothing where there is one. */
  explain(why) {
    put(this.part.why, why ? this.#words(why) : "");
    this.part.trouble.hidden = !why;
    this.part.again.hidden = !why || why.none;
  }

  #words(why) {
    if (!why.passing) return why.words;
    const away = why.holders.filter(isAway).map((code) => `${nameOf(code)}: ${siteOf(code).querySelector('[data-part="state"]').textContent.trim()}.`);
    return `${away.join(" ") || why.words} Trying again by itself.`;
  }

  /** What is on its way; said beside the picture, not over it. */
  busy(text) {
    put(this.part.busy, text);
    this.part.busy.hidden = !text;
  }

  place() {
    const { zoom, x, y } = this.view;
    if (this.#canvas) this.#canvas.style.transform = zoom === 1 ? "" : `translate(${x}px, ${y}px) scale(${zoom})`;
    this.part.stage.classList.toggle("stage--zoomed", zoom > 1);
  }

  /** Zoom by a factor, 0 for the whole picture. */
  zoom(factor) {
    const zoom = factor ? Math.min(12, Math.max(1, this.view.zoom * factor)) : 1;
    this.view = zoom === 1 ? { zoom: 1, x: 0, y: 0 } : { ...this.view, zoom };
    this.place();
  }

  /** Bring a series into sight within its list; the page itself stays where it is. */
  reveal(link) {
    const list = link.closest("ul");
    const [box, one] = [list.getBoundingClientRect(), link.getBoundingClientRect()];
    list.scrollBy(Math.min(0, one.left - box.left) || Math.max(0, one.right - box.right), Math.min(0, one.top - box.top) || Math.max(0, one.bottom - box.bottom));
  }

  /** The slider tells what is asked for, the picture what is there. */
  slider(wanted, count, unit, waiting) {
    const slider = this.part.slider;
    slider.max = String(Math.max(1, count));
    slider.value = String(wanted + 1);
    slider.setAttribute("aria-valuetext", `${unit} ${wanted + 1} of ${count}${waiting ? ", on its way" : ""}`);
    this.part.controls.hidden = !count;
  }
}
