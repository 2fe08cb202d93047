// The preview: rendered frames of one series at a time, nearest first, by keys, wheel, slider and touch. Not for diagnosis.

const viewer = document.getElementById("viewer");
const stage = document.getElementById("stage");
const holder = document.getElementById("picture");
const slider = document.getElementById("slider");
const presets = document.getElementById("window");
const message = document.getElementById("message");
const study = `${viewer.dataset.root}/studies/${viewer.dataset.study}`;

const PARALLEL = 4; // pictures asked for ahead at once: the page's own requests keep their way
const AHEAD = 24; // how far ahead, on either side
const KEEP = 240; // pictures kept in memory
const PAGE = 1000; // instances asked for at once
const PRESETS = {
  CT: [["Soft tissue", "40,400"], ["Lung", "-600,1500"], ["Bone", "400,1800"], ["Brain", "40,80"], ["Liver", "60,160"]],
};

let frames = []; // {url}
let unit = "Image"; // or Frame, where an image has several: the list counts images
let at = 0;
let series = "";
let pictures = new Map(); // url -> promise of an image
let failed = new Set(); // urls that are not asked for ahead again
let generation = 0; // of the series and window shown
let view = { zoom: 1, x: 0, y: 0 };

const value = (row, tag) => row[tag]?.Value?.[0];
const say = (text) => { message.textContent = text; };

async function instances(uid) {
  const found = [];
  for (;;) {
    const url = `${study}/series/${uid}/instances?limit=${PAGE}&offset=${found.length}`;
    const answer = await fetch(url, { headers: { Accept: "application/dicom+json" } });
    if (answer.status === 204) return found;
    if (!answer.ok) throw new Error(answer.status === 504 || answer.status === 503 ? "away" : String(answer.status));
    const rows = await answer.json();
    found.push(...rows);
    if (rows.length < PAGE) return found;
  }
}

function framesOf(uid, rows) {
  rows.sort((a, b) => (value(a, "00200013") ?? 1e9) - (value(b, "00200013") ?? 1e9) || String(value(a, "00080018")).localeCompare(String(value(b, "00080018"))));
  const list = [];
  for (const row of rows) {
    const sop = value(row, "00080018");
    if (!sop) continue;
    const n = Math.max(1, Number(value(row, "00280008") ?? 1));
    for (let frame = 1; frame <= n; frame += 1) list.push(`${study}/series/${uid}/instances/${sop}/frames/${frame}/rendered`);
  }
  return list;
}

function address(index) {
  const side = Math.min(1024, Math.ceil((Math.max(stage.clientWidth, stage.clientHeight) * (devicePixelRatio || 1)) / 256) * 256);
  const chosen = presets.value ? `&window=${presets.value},linear` : "";
  return `${frames[index]}?viewport=${side},${side}${chosen}`;
}

function load(index) {
  const url = address(index);
  let promise = pictures.get(url);
  if (promise) {
    pictures.delete(url); // to the young end
  } else {
    const img = new Image();
    img.alt = "";
    img.draggable = false;
    img.src = url;
    promise = img.decode().then(() => img);
    promise.catch(() => {
      pictures.delete(url);
      failed.add(url);
    });
  }
  pictures.set(url, promise);
  while (pictures.size > KEEP) pictures.delete(pictures.keys().next().value);
  return promise;
}

async function show(index) {
  if (!frames.length) return;
  at = Math.min(frames.length - 1, Math.max(0, index));
  const mine = generation;
  slider.value = String(at + 1);
  slider.setAttribute("aria-valuetext", `${unit} ${at + 1} of ${frames.length}`);
  document.getElementById("position").textContent = `${unit} ${at + 1} / ${frames.length}`;
  const wanted = at;
  const late = setTimeout(() => mine === generation && wanted === at && say("Loading…"), 400);
  try {
    const img = await load(wanted);
    if (mine !== generation || wanted !== at) return;
    say("");
    holder.replaceChildren(img);
    img.alt = `${unit} ${wanted + 1} of ${frames.length}`;
    place();
  } catch {
    if (mine === generation && wanted === at) {
      holder.replaceChildren();
      say("This image cannot be shown here.");
    }
  } finally {
    clearTimeout(late);
  }
  prefetch(mine);
}

// Nearest first, a few at a time; a new series or window ends the old run.
let running = 0;
function prefetch(mine) {
  for (let distance = 1; running < PARALLEL && distance <= Math.min(frames.length, AHEAD); distance += 1) {
    for (const index of [at + distance, at - distance]) {
      if (running >= PARALLEL || mine !== generation) return;
      if (index < 0 || index >= frames.length || pictures.has(address(index)) || failed.has(address(index))) continue;
      running += 1;
      load(index).catch(() => {}).finally(() => { running -= 1; if (mine === generation) prefetch(mine); });
    }
  }
}

function place() {
  const img = holder.firstElementChild;
  if (img) img.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
  stage.classList.toggle("stage--zoomed", view.zoom > 1);
}

function zoom(factor) {
  view.zoom = factor ? Math.min(12, Math.max(1, view.zoom * factor)) : 1;
  if (view.zoom === 1) view = { zoom: 1, x: 0, y: 0 };
  place();
}

function offer(modality) {
  presets.replaceChildren(new Option("As stored", ""), ...(PRESETS[modality] || []).map(([name, window]) => new Option(name, window)));
  presets.closest("label").hidden = !(modality in PRESETS);
  document.getElementById("window-name").textContent = "";
}

async function choose(link) {
  const mine = ++generation;
  series = link.dataset.series;
  document.querySelectorAll(".series").forEach((one) => {
    one.classList.toggle("series--current", one === link);
    one.toggleAttribute("aria-current", one === link);
  });
  link.scrollIntoView({ block: "nearest", inline: "nearest" });
  frames = [];
  pictures = new Map();
  failed = new Set();
  holder.replaceChildren();
  zoom(0);
  offer(link.dataset.modality);
  say("Loading…");
  try {
    const rows = await instances(series);
    if (mine !== generation) return;
    frames = framesOf(series, rows);
    unit = frames.length > rows.length ? "Frame" : "Image";
    slider.max = String(Math.max(1, frames.length));
    document.getElementById("controls").hidden = !frames.length;
    document.getElementById("stage-caption").textContent = `${link.textContent.trim().replace(/\s+/g, " ")}`;
    if (frames.length) await show(0);
    else say("There are no images in this series.");
  } catch (error) {
    if (mine === generation) say(error.message === "away" ? "Whoever holds these images cannot be reached now." : "The images cannot be shown now.");
  }
}

function neighbour(step) {
  const links = [...document.querySelectorAll(".series")];
  const next = links[links.findIndex((one) => one.dataset.series === series) + step];
  if (next) choose(next);
}

const KEYS = {
  ArrowUp: () => show(at - 1), ArrowDown: () => show(at + 1), PageUp: () => show(at - 10), PageDown: () => show(at + 10),
  Home: () => show(0), End: () => show(frames.length - 1), ArrowLeft: () => neighbour(-1), ArrowRight: () => neighbour(1),
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: () => zoom(0),
};
stage.addEventListener("keydown", (event) => {
  const act = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

let turned = 0;
stage.addEventListener("wheel", (event) => {
  if (!frames.length) return;
  event.preventDefault();
  if (event.ctrlKey) return zoom(event.deltaY < 0 ? 1.15 : 0.87);
  turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
  const steps = Math.trunc(turned / 40);
  if (steps) {
    turned -= steps * 40;
    show(at + steps);
  }
}, { passive: false });

let held = null;
stage.addEventListener("pointerdown", (event) => {
  if (view.zoom === 1 || event.button) return;
  held = { x: event.clientX - view.x, y: event.clientY - view.y };
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  if (!held) return;
  view.x = event.clientX - held.x;
  view.y = event.clientY - held.y;
  place();
});
for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { held = null; });

slider.addEventListener("input", () => show(Number(slider.value) - 1));
presets.addEventListener("change", () => {
  generation += 1;
  pictures = new Map();
  failed = new Set();
  document.getElementById("window-name").textContent = presets.value ? presets.selectedOptions[0].text : "";
  show(at);
});
document.querySelectorAll("[data-step]").forEach((button) => button.addEventListener("click", () => show(at + Number(button.dataset.step))));
document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => zoom(Number(button.dataset.zoom))));
document.getElementById("invert").addEventListener("click", (event) => {
  const on = stage.classList.toggle("stage--invert");
  event.currentTarget.setAttribute("aria-pressed", String(on));
});
document.querySelectorAll(".series").forEach((link) => link.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  choose(link);
  stage.focus({ preventScroll: true });
}));

addEventListener("pagehide", () => { generation += 1; }); // ask for nothing more

const first = document.querySelector(".series--current");
if (first) {
  choose(first);
  stage.focus({ preventScroll: true }); // the keys work at once
} else say("There are no images to show.");
