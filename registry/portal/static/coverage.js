// Keeps an open page true. It asks one small JSON endpoint, which shows nothing of a patient: whether the list (or the study) is
// still the one that is shown, and how the trusts are. A list that changed is drawn again; what cannot be known is not claimed.
// Pages work without it.

import { ended } from "./session.js";

const strip = document.querySelector(".sites[data-poll]");
const every = Number(strip?.dataset.poll || 0);
const live = document.querySelector('[data-coverage="live"]');
let known = new Map(); // code -> site, as last heard
let active = Date.now(); // a page that nobody uses stops asking, so that its session can end
let heard = { ms: Date.now(), at: strip?.dataset.at || "" }; // when the service last answered: here, and in its own words
let stale = false;
const IDLE_MS = 10 * 60 * 1000;
const STALE_MS = 2 * every + 3000; // so long without an answer, and nothing is claimed any more
const ANSWER_MS = 4000;
const OPENS = {
  yes: { row: "", box: "open open--yes", mark: "●" },
  no: { row: "study--away", box: "open open--no", mark: "✕" },
  unknown: { row: "study--unknown", box: "open open--unknown", mark: "?" },
};

function put(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

function showSite(site) {
  const item = strip.querySelector(`[data-site="${CSS.escape(site.code)}"]`);
  if (!item) return false;
  item.className = `site site--${site.level}`;
  for (const part of ["symbol", "state", "fresh"]) put(item.querySelector(`[data-part="${part}"]`), site[part]);
  return true;
}

function showRow(row, sites) {
  const holders = (row.dataset.holders || "").split(" ").map((code) => sites.get(code)).filter(Boolean);
  if (!holders.length) return;
  const opens = holders.some((site) => site.opens);
  const why = holders.map((site) => (holders.length > 1 ? `${site.name}: ${site.opening}` : site.opening)).join("; ");
  showOpening(row, opens ? "yes" : "no", opens ? "Open now" : why);
  const thumb = row.querySelector(".study__thumb");
  if (thumb && opens && !thumb.firstElementChild && !thumb.dataset.failed) thumb.append(picture(thumb));
}

function showOpening(row, opens, text) {
  for (const [name, { row: kind }] of Object.entries(OPENS)) if (kind) row.classList.toggle(kind, name === opens);
  const box = row.querySelector('[data-part="opening"]');
  if (box) {
    box.className = OPENS[opens].box;
    put(box.querySelector(".open__mark"), OPENS[opens].mark);
    put(box.querySelector('[data-part="words"]'), text);
  }
  const view = row.querySelector('[data-part="view"]');
  if (view) view.hidden = opens !== "yes";
}

function picture(thumb) {
  const img = document.createElement("img");
  Object.assign(img, { width: 96, height: 96, alt: "", loading: "lazy", decoding: "async", src: thumb.dataset.src });
  img.addEventListener("error", () => forget(img));
  return img;
}

function forget(img) {
  const box = img.parentElement;
  img.remove();
  if (box) box.dataset.failed = "1";
}

const rows = () => document.querySelectorAll("[data-study-uid][data-holders]");

async function show(state) {
  const sites = new Map(state.sites.map((site) => [site.code, site]));
  const changed = state.sites.filter((site) => known.size && known.get(site.code)?.state !== site.state);
  let all = true;
  for (const site of state.sites) all = showSite(site) && all;
  rows().forEach((row) => showRow(row, sites));
  document.querySelectorAll('[data-coverage="at"]').forEach((node) => put(node, state.at));
  if (changed.length) put(live, changed.map((site) => `${site.name}: ${site.state}`).join(". "));
  known = sites;
  heard = { ms: Date.now(), at: state.at };
  stale = false;
  document.dispatchEvent(new Event("coverage")); // the preview asks again for what may have come back
  const better = claim("complete", state.complete, state) || claim("absence", state.proven, state);
  if (better || !all) await redraw();
}

// What the page claims of its own list is taken back at once; it is never claimed anew without asking for the list again.
function claim(id, sure, state) {
  const box = document.getElementById(id);
  if (!box || (sure && box.dataset.sure)) return false;
  if (sure) return true;
  delete box.dataset.sure;
  box.hidden = Boolean(state.doubted);
  box.className = id === "complete" ? "complete complete--no" : "notice notice--warn";
  const parts = [...document.querySelectorAll("[data-coverage]")];
  for (const part of parts) if (part.dataset.coverage !== "at" && part.dataset.coverage in state) put(part, state[part.dataset.coverage]);
  return false;
}

// Nothing was heard for a while (the service is gone, or this page slept): no state is claimed that nobody can know.
function unknown() {
  if (stale || Date.now() - heard.ms <= STALE_MS) return;
  stale = true;
  const text = `Not known since ${heard.at}`;
  strip.querySelectorAll("[data-site]").forEach((item) => {
    item.className = "site site--unknown";
    put(item.querySelector('[data-part="symbol"]'), "?");
    put(item.querySelector('[data-part="state"]'), text);
  });
  rows().forEach((row) => showOpening(row, "unknown", text));
  document.querySelectorAll('[data-coverage="at"]').forEach((node) => put(node, `${heard.at} – the service does not answer now`));
  put(live, `The service does not answer. ${text}.`);
  known = new Map();
  const gone = `The service has not answered since ${heard.at}.`;
  const state = { lead: "This list may be out of date.", sentence: gone, verdict: "None found so far", absence: gone };
  claim("complete", false, state);
  claim("absence", false, state);
  document.dispatchEvent(new Event("coverage"));
}

// The list as it is now, in place of the one that is shown, with the strip and the version that belong to it: one act.
async function redraw() {
  if (!/^\/patients\/[^/]+$/.test(location.pathname)) return;
  const answer = await fetch(location.pathname, { headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(3 * ANSWER_MS) });
  if (answer.status === 404 || answer.status === 403) return location.reload(); // the page says why there is no such list
  if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [old, made] = [document.querySelector(".split__main"), page.querySelector(".split__main")];
  const read = page.querySelector(".sites[data-version]");
  if (!old || !made || !read) return;
  const focus = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  old.replaceWith(document.importNode(made, true));
  strip.querySelector(".sites__list").replaceWith(document.importNode(read.querySelector(".sites__list"), true));
  put(strip.querySelector('[data-part="read"]'), read.dataset.at);
  for (const name of ["version", "doubt", "at"]) strip.dataset[name] = read.dataset[name];
  if (focus !== null) document.querySelector(`.split__main a[href="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
  watchThumbs();
}

// The answer is another one than this page shows: a list is drawn again, a preview says so.
async function changed(version) {
  if (/^\/patients\/[^/]+$/.test(location.pathname)) {
    await redraw();
    put(live, "The list has changed.");
  } else {
    strip.dataset.version = version;
    document.getElementById("study-changed")?.removeAttribute("hidden");
  }
}

let asking = false;
async function poll() {
  if (asking || document.hidden || Date.now() - active > IDLE_MS) return;
  asking = true;
  const doubt = strip.dataset.doubt ? `?doubt=${encodeURIComponent(strip.dataset.doubt)}` : "";
  try {
    const address = strip.dataset.state || `/coverage.json${doubt}`;
    const answer = await fetch(address, { cache: "no-store", headers: { Accept: "application/json" }, signal: AbortSignal.timeout(ANSWER_MS) });
    if (answer.status === 401) return ended();
    if (!answer.ok) throw new Error(String(answer.status));
    const state = await answer.json();
    if (state.version && state.version !== strip.dataset.version) await changed(state.version);
    await show(state);
  } catch {
    // not heard: time tells
  } finally {
    asking = false;
  }
}

function watchThumbs() {
  document.querySelectorAll(".study__thumb img, .series__thumb img").forEach((img) => {
    if (img.complete && !img.naturalWidth && img.loading !== "lazy") forget(img);
    img.addEventListener("error", () => forget(img), { once: true });
  });
}

if (matchMedia("(max-width: 760px)").matches) strip?.querySelector("details")?.removeAttribute("open");
watchThumbs();
addEventListener("beforeprint", () => document.querySelectorAll('[data-part="printed"]').forEach((node) => put(node, new Date().toLocaleString("en-GB"))));
if (strip && every) {
  const clocks = [setInterval(poll, every), setInterval(unknown, 1000)];
  document.addEventListener("session-ended", () => clocks.forEach((clock) => clearInterval(clock)));
  document.addEventListener("visibilitychange", () => { unknown(); poll(); });
  for (const act of ["pointerdown", "pointermove", "keydown", "wheel"]) {
    document.addEventListener(act, () => {
      const idle = Date.now() - active > IDLE_MS;
      active = Date.now();
      if (idle) poll();
    }, { passive: true });
  }
}
