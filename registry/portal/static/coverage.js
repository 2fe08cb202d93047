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
    put(box.querySelector('[data-part="words"]'), opens ? "Open now" : holders.map((s) => `${s.name}: ${s.opening}`).join("; "));
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
  let fresh = true;
  for (const site of state.sites) fresh = showSite(site) && fresh;
  document.querySelectorAll("[data-study-uid][data-holders]").forEach((row) => showRow(row, sites));
  document.querySelectorAll("[data-coverage]").forEach((node) => {
    const part = node.dataset.coverage;
    if (part in state) put(node, state[part]);
    if (part === "sentence") node.className = `complete complete--${state.complete ? "yes" : "no"}`;
  });
  const back = changed.some((site) => site.level === "well");
  if (changed.length) put(live, changed.map((site) => `${site.name}: ${site.state}`).join(". "));
  known = sites;
  // A trust that caught up may have told of new studies: the list itself is asked for again, by a visible page only.
  if ((back || !fresh) && document.querySelector(".timeline, [data-coverage='absence']") && location.pathname.startsWith("/patients/")) refresh();
}

async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [old, made] = [document.querySelector(".split__main"), page.querySelector(".split__main")];
  if (!old || !made || old.innerHTML === made.innerHTML || old.contains(document.activeElement)) return;
  old.replaceWith(document.importNode(made, true));
  watchThumbs();
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
      document.querySelectorAll('[data-coverage="sentence"]').forEach((node) => {
        node.className = "complete complete--no";
        put(node, "The service does not answer: this list may be out of date.");
      });
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
