// Keeps the strip of trusts and the rows' availability true while a page is open. Asks one small JSON endpoint; nothing
// about a patient is sent. Pages work without it.

const strip = document.querySelector(".sites[data-poll]");
const every = Number(strip?.dataset.poll || 0);
const live = document.querySelector('[data-coverage="live"]');
let known = new Map(); // code -> site, as last heard
let failures = 0;
let active = Date.now(); // a page that nobody uses stops asking, so that its session can end
const IDLE_MS = 10 * 60 * 1000;

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
  row.classList.toggle("study--away", !opens);
  const box = row.querySelector('[data-part="opening"]');
  if (box) {
    box.className = `open open--${opens ? "yes" : "no"}`;
    put(box.querySelector(".open__mark"), opens ? "●" : "✕");
    put(box.querySelector('[data-part="words"]'), opens ? "Open now" : holders.map((s) => (holders.length > 1 ? `${s.name}: ${s.opening}` : s.opening)).join("; "));
  }
  const view = row.querySelector('[data-part="view"]');
  if (view) view.hidden = !opens;
  const thumb = row.querySelector(".study__thumb");
  if (thumb && opens && !thumb.firstElementChild && !thumb.dataset.failed) thumb.append(picture(thumb));
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

function show(state) {
  const sites = new Map(state.sites.map((site) => [site.code, site]));
  const changed = state.sites.filter((site) => known.size && known.get(site.code)?.state !== site.state);
  let all = true;
  for (const site of state.sites) all = showSite(site) && all;
  document.querySelectorAll("[data-study-uid][data-holders]").forEach((row) => showRow(row, sites));
  document.querySelectorAll('[data-coverage="at"]').forEach((node) => put(node, state.at));
  if (changed.length) put(live, changed.map((site) => `${site.name}: ${site.state}`).join(". "));
  known = sites;
  const better = claim("complete", state.complete, state) || claim("absence", state.proven, state);
  // A trust that caught up may have told of new studies: the list itself is asked for again.
  if (better || !all || changed.some((site) => site.level === "well")) refresh();
}

// What the page claims of its own list is taken back at once; it is never claimed anew without asking for the list again.
function claim(id, sure, state) {
  const box = document.getElementById(id);
  if (!box || (sure && box.dataset.sure)) return false;
  if (sure) return true;
  delete box.dataset.sure;
  box.className = id === "complete" ? "complete complete--no" : "notice notice--warn";
  const parts = [...document.querySelectorAll("[data-coverage]")];
  for (const part of parts) if (part.dataset.coverage !== "at" && part.dataset.coverage in state) put(part, state[part.dataset.coverage]);
  return false;
}

let refreshing = false;
async function refresh() {
  if (refreshing || !/^\/patients\/[^/]+$/.test(location.pathname)) return;
  refreshing = true;
  try {
    const answer = await fetch(location.pathname, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const [old, made] = [document.querySelector(".split__main"), page.querySelector(".split__main")];
    if (!old || !made) return;
    const focus = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    old.replaceWith(document.importNode(made, true));
    if (focus !== null) document.querySelector(`.split__main a[href="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    watchThumbs();
  } finally {
    refreshing = false;
  }
}

async function poll() {
  if (document.hidden || Date.now() - active > IDLE_MS) return;
  const doubt = strip.dataset.doubt ? `?doubt=${encodeURIComponent(strip.dataset.doubt)}` : "";
  try {
    const answer = await fetch(`/coverage.json${doubt}`, { cache: "no-store", headers: { Accept: "application/json" } });
    if (answer.status === 401) return location.assign("/");
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.json());
    failures = 0;
  } catch {
    failures += 1;
    if (failures === 2) {
      document.querySelectorAll('[data-coverage="at"]').forEach((node) => put(node, `${node.textContent} – the service does not answer now`));
      const gone = "The service does not answer now.";
      const state = { lead: "This list may be out of date.", sentence: gone, verdict: "None found so far", absence: gone };
      claim("complete", false, state);
      claim("absence", false, state);
    }
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
if (strip && every) {
  setInterval(poll, every);
  document.addEventListener("visibilitychange", poll);
  for (const act of ["pointerdown", "pointermove", "keydown", "wheel"]) {
    document.addEventListener(act, () => { active = Date.now(); }, { passive: true });
  }
}
