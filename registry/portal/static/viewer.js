// The preview: rendered frames of one series at a time. Not for diagnosis.
//
// viewer-state.js    what is wanted and shown, and the rules (pure)
// viewer-loading.js  pictures from their holder
// viewer-drawing.js  what is shown, on the page
// viewer-input.js    keys, wheel, mouse, touch

import { ended } from "./session.js";
import { Drawing } from "./viewer-drawing.js";
import { bind, focus } from "./viewer-input.js";
import { Failure, Loader, get, isAway } from "./viewer-loading.js";
import { FIELDS, NOTHING, clamp, framesOf, nearest, planOf, viewportOf } from "./viewer-state.js";

const PAGE = 1000; // instances asked for at once
const SETTLED_MS = 100; // after so long without a step the reader has arrived
const BUSY_MS = 300; // before "loading" is said
const AGAIN_MS = [2000, 4000, 8000, 16000, 30000]; // between tries
const AS_STORED = { name: "", value: "" };
const PRESETS = {
  CT: [["Soft tissue", "40,400"], ["Lung", "-600,1500"], ["Bone", "400,1800"], ["Brain", "40,80"], ["Liver", "60,160"]],
};

class Viewer {
  wanted = { series: null, index: 0, window: AS_STORED, towards: 1, since: 0 };
  shown = NOTHING;
  #frames = [];
  #unit = "Image"; // or Frame, where an image has several
  #failed = new Map(); // url -> Failure
  #index = new Map(); // url -> index, of the series and window wanted
  #listing = null; // AbortController of the list of instances
  #turn = 0; // counts series and windows: what was begun for an earlier one is not shown
  #tries = 0;
  #timers = {};
  #drawing = false;
  #away = false; // whether every holder was, as last heard

  constructor(page) {
    this.study = `${page.dataset.root}/studies/${page.dataset.study}`;
    this.page = page;
    this.drawing = new Drawing(page);
    this.loader = new Loader({
      came: () => { this.#tries = 0; this.#update(); },
      failed: (url, why) => this.#fails(url, why),
    });
    this.#away = this.#allAway();
    bind({ ...this.drawing.part, page }, this);
    new ResizeObserver(() => this.#update()).observe(this.drawing.part.stage);
    document.addEventListener("coverage", () => this.#heard());
    document.addEventListener("session-ended", () => this.stop());
    addEventListener("pagehide", () => this.loader.stop());
    addEventListener("pageshow", (event) => { if (event.persisted) this.#update(); });
  }

  // --- acts --------------------------------------------------------------------------------------------------------

  step(by) { this.go(this.wanted.index + by); }

  go(index) {
    if (!this.#frames.length) return;
    const at = clamp(index, 0, this.#frames.length - 1);
    if (at === this.wanted.index) return;
    Object.assign(this.wanted, { towards: at < this.wanted.index ? -1 : 1, index: at, since: performance.now() });
    this.#later("settled", SETTLED_MS, () => this.#update());
    this.#update();
  }

  window(value) {
    const option = [...this.drawing.part.presets.options].find((one) => one.value === value);
    this.wanted.window = value ? { name: option.text, value } : AS_STORED;
    this.#another();
    this.#update();
  }

  zoom(factor) {
    this.drawing.zoom(factor);
    this.#later("settled", SETTLED_MS, () => this.#update()); // more of the picture may be wanted
  }

  zoomed() { return this.drawing.view.zoom > 1; }

  pan(right, below) {
    this.drawing.view.x += right;
    this.drawing.view.y += below;
    this.drawing.place();
  }

  /** Pixels of a drag for one image. */
  perImage(touch) {
    const { clientWidth, clientHeight } = this.drawing.part.stage;
    return touch ? clamp((0.9 * clientWidth) / this.#frames.length, 8, 48) : clamp((0.9 * clientHeight) / this.#frames.length, 3, 24);
  }

  neighbour(step) {
    const links = [...this.page.querySelectorAll(".series")];
    const next = links[links.findIndex((one) => one.dataset.series === this.wanted.series?.uid) + step];
    if (next) this.choose(next);
  }

  /** Show another series, from its first image. The page's address remembers it. */
  choose(link) {
    const name = link.querySelector(".series__name").textContent.trim();
    const series = { uid: link.dataset.series, modality: link.dataset.modality, label: name, link };
    Object.assign(this.wanted, { series, index: 0, window: AS_STORED, towards: 1 });
    this.#frames = [];
    this.#another();
    this.#offer(series.modality);
    this.drawing.zoom(0);
    this.#show({ ...NOTHING, series, why: null });
    this.drawing.slider(0, 0, "Image", false);
    this.drawing.reveal(link);
    this.#remember(series.uid);
    if (link.dataset.none) this.#show({ ...NOTHING, kind: "failure", series, why: { words: link.dataset.none, none: true } });
    else this.#list();
  }

  #remember(uid) {
    const address = new URL(location.href);
    if (uid === this.page.dataset.first && !address.searchParams.has("series")) return; // as the address says already
    address.searchParams.set("series", uid);
    history.replaceState(history.state, "", address.pathname + address.search);
  }

  /** Try again at once, whatever failed. */
  again() {
    this.#failed.clear();
    if (!this.#frames.length) return this.#list();
    if (this.shown.kind === "failure") this.#show({ ...this.shown, kind: "nothing", why: null });
    this.#update();
    focus(this.drawing.part);
  }

  stop() {
    this.#turn += 1;
    this.#listing?.abort();
    this.loader.stop();
    Object.keys(this.#timers).forEach((name) => clearTimeout(this.#timers[name]));
    this.#frames = [];
  }

  // --- what there is -----------------------------------------------------------------------------------------------

  #another() {
    this.#turn += 1;
    this.#failed.clear();
    this.#index.clear();
    this.loader.plan([], 0);
  }

  #offer(modality) {
    const { presets } = this.drawing.part;
    presets.replaceChildren(new Option("As stored", ""), ...(PRESETS[modality] || []).map(([name, window]) => new Option(name, window)));
    presets.closest("label").hidden = !(modality in PRESETS);
  }

  async #list() {
    this.#listing?.abort();
    const [control, turn, series] = [new AbortController(), this.#turn, this.wanted.series];
    this.#listing = control;
    this.#busy("Loading…");
    try {
      const rows = await this.#instances(series.uid, control.signal);
      if (turn !== this.#turn) return;
      this.#tries = 0;
      this.#frames = framesOf(rows);
      this.#unit = this.#frames.length > rows.length ? "Frame" : "Image";
      if (this.#unit === "Frame") {
        const images = `${rows.length} ${rows.length === 1 ? "image" : "images"}`;
        series.link.querySelector('[data-part="facts"]').textContent = `${this.#frames.length} frames in ${images}`;
      }
      if (this.#frames.length) return this.#update();
      this.#show({ ...NOTHING, kind: "failure", series, why: { words: "There are no images in this series.", none: true } });
    } catch (error) {
      if (error.name === "AbortError" || turn !== this.#turn) return;
      const why = error instanceof Failure ? error : new Failure("The list of images cannot be read.", { passing: true });
      this.#fails("", why);
      this.#show({ ...NOTHING, kind: "failure", series, why });
    }
  }

  async #instances(uid, signal) {
    const found = [];
    for (;;) {
      const url = `${this.study}/series/${uid}/instances?includefield=${FIELDS.join(",")}&limit=${PAGE}&offset=${found.length}`;
      const answer = await get(url, "application/dicom+json", signal);
      const rows = answer.status === 204 ? [] : await answer.json();
      found.push(...rows);
      if (rows.length < PAGE) return found;
    }
  }

  #url(index) {
    const frame = this.#frames[index];
    const viewport = viewportOf(frame.sides, this.drawing.size, devicePixelRatio || 1);
    const asked = [viewport && `viewport=${viewport}`, this.wanted.window.value && `window=${this.wanted.window.value},linear`];
    const url = `${this.study}/series/${this.wanted.series.uid}/${frame.path}?${asked.filter(Boolean).join("&")}`.replace(/\?$/, "");
    this.#index.set(url, index);
    return url;
  }

  // --- from wanted to shown ----------------------------------------------------------------------------------------

  /** How far what is shown lies from what is wanted, in images. */
  #distance() {
    const { series, index, window } = this.wanted;
    const same = this.shown.kind === "picture" && this.shown.series.uid === series.uid && this.shown.window.value === window.value;
    return same ? Math.abs(this.shown.index - index) : Infinity;
  }

  #update() {
    const count = this.#frames.length;
    if (!count) return;
    const { index, towards, since } = this.wanted;
    const plan = planOf({
      wanted: index, count, towards, distance: this.#distance(), settled: performance.now() - since >= SETTLED_MS - 5,
      trouble: [...this.#failed.values()].some((why) => why.passing),
      has: (one) => this.loader.has(this.#url(one)), failed: (one) => this.#failed.has(this.#url(one)),
      flying: this.loader.flying.map((url) => this.#index.get(url)).filter((one) => one !== undefined),
    });
    this.loader.plan(plan.order.map((one) => this.#url(one)), plan.parallel);
    this.#draw();
    const why = this.#failed.get(this.#url(index));
    if (why && this.#distance() > 0) {
      this.#show({ ...NOTHING, kind: "failure", series: this.wanted.series, index, count, unit: this.#unit, why });
    }
    this.#tell();
  }

  /** Bring what is there and nearest to what is wanted to the screen, one decoding at a time. */
  async #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    try {
      for (let index = this.#best(); index >= 0; index = this.#best()) await this.#bring(index);
    } finally {
      this.#drawing = false;
    }
  }

  #best() {
    const { index } = this.wanted;
    const count = this.#frames.length;
    if (!count || this.shown.url === this.#url(index)) return -1;
    return nearest(index, count, this.#distance() || 1, (one) => this.loader.has(this.#url(one)));
  }

  async #bring(index) {
    const [url, turn, window, series] = [this.#url(index), this.#turn, this.wanted.window, this.wanted.series];
    let bitmap = null;
    try {
      bitmap = await this.loader.bitmap(url);
    } catch (why) {
      this.#fails(url, why);
    }
    if (!bitmap) return;
    const nearer = turn === this.#turn && Math.abs(index - this.wanted.index) < (this.#distance() || 1);
    if (nearer) this.#show({ kind: "picture", series, index, count: this.#frames.length, unit: this.#unit, url, window, bitmap, why: null });
    bitmap.close();
    if (nearer) this.#update();
  }

  /** The one place where what is shown changes: the pixels and all words of them. */
  #show(shown) {
    this.shown = shown;
    this.drawing.paint(shown);
    this.#tell();
  }

  #tell() {
    const count = this.#frames.length;
    if (!count) {
      if (this.shown.kind !== "nothing") this.#busy("");
      return;
    }
    const there = this.#distance() === 0 || (this.shown.kind === "failure" && this.shown.index === this.wanted.index);
    this.drawing.slider(this.wanted.index, count, this.#unit, !there);
    this.#busy(there ? "" : `Loading ${this.#unit.toLowerCase()} ${this.wanted.index + 1}…`);
  }

  #busy(text) {
    if (!text) {
      clearTimeout(this.#timers.busy);
      this.#timers.busy = 0;
      this.saying = "";
      return this.drawing.busy("");
    }
    this.saying = text;
    if (!this.drawing.part.busy.hidden) this.drawing.busy(text);
    else if (!this.#timers.busy) this.#later("busy", BUSY_MS, () => this.drawing.busy(this.saying));
  }

  #later(name, ms, what) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(() => { this.#timers[name] = 0; what(); }, ms);
  }

  // --- what fails, and comes back ----------------------------------------------------------------------------------

  #fails(url, why) {
    if (why.ended) return ended();
    this.#failed.set(url, why);
    if (why.passing) {
      this.#later("again", AGAIN_MS[Math.min(this.#tries, AGAIN_MS.length - 1)], () => this.#retry());
      this.#tries += 1;
    }
    this.#update();
  }

  /** Ask again for what may have come back; while its holder is known to be away, its return is waited for. */
  #retry() {
    const passing = [...this.#failed].filter(([, why]) => why.passing);
    const away = passing.some(([, why]) => why.holders.some(isAway));
    if (!passing.length || away || document.hidden) return;
    passing.forEach(([url]) => this.#failed.delete(url));
    if (this.#frames.length) this.#update();
    else this.#list();
  }

  /** The trusts' state has been heard. */
  #heard() {
    this.drawing.explain(this.shown.why);
    if (!this.#timers.again) this.#retry();
    this.#thumbnails();
  }

  /** Those that were left out while the holder was away. */
  #thumbnails() {
    const [was, is] = [this.#away, this.#allAway()];
    this.#away = is;
    if (is || !was) return;
    for (const box of this.page.querySelectorAll(".series__thumb[data-src]:empty")) {
      const image = Object.assign(new Image(64, 64), { alt: "", loading: "lazy", decoding: "async", src: box.dataset.src });
      image.addEventListener("error", () => image.remove());
      box.append(image);
    }
  }

  #allAway() {
    return this.page.dataset.holders.split(" ").every(isAway);
  }
}

const viewer = new Viewer(document.getElementById("viewer"));
const first = document.querySelector(".series--current");
if (first) {
  viewer.page.dataset.first = first.dataset.series;
  viewer.choose(first);
  focus(viewer.drawing.part); // the keys work at once
} else {
  viewer.drawing.explain({ words: "There are no images to show.", none: true });
}
