// A session's end on an open page: it is announced, then nothing of a patient stays on the screen, whether or not anything was
// asked meanwhile; signing in leads back to where one was.

const SESSION = "/signin/session"; // says how long it lasts, without making it last longer
const EACH_MS = 1000;
const ASK_MS = 5000;

const total = Number(document.body.dataset.sessionLeft || 0); // seconds; 0 = there is no session
const warnMs = Math.min(120, total / 4) * 1000;
const box = document.getElementById("session-notice");
let deadline = Date.now() + total * 1000;
let final = false; // whether no use puts the end off
let asked = 0;
let timer = 0;
let gone = false;

const back = () => `${document.body.dataset.signIn || "/signin"}?return=${encodeURIComponent(location.pathname + location.search)}`;

/** The session has ended: say so, and keep nothing else on the page. */
export function ended() {
  if (gone) return;
  gone = true;
  clearInterval(timer);
  document.dispatchEvent(new Event("session-ended"));
  const page = document.getElementById("session-end")?.content.cloneNode(true);
  if (!page) return location.assign(back());
  const link = page.querySelector("a.button");
  link.href = back();
  document.title = page.querySelector("h1").textContent;
  document.body.className = "";
  document.body.replaceChildren(page);
  document.documentElement.classList.remove("veiled");
  document.querySelector("h1").focus();
}

/** Ask how long it still lasts. Whoever cannot be asked at the end counts as saying that it is over. */
async function ask() {
  asked = Date.now();
  try {
    const answer = await fetch(SESSION, { cache: "no-store", headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const told = await answer.json();
    deadline = Date.now() + 1000 * told.left_s;
    final = told.final;
  } catch {
    // as it was
  }
  if (Date.now() >= deadline) ended();
  else document.documentElement.classList.remove("veiled");
  show();
}

function show() {
  const left = deadline - Date.now();
  if (gone || !box) return;
  box.hidden = left > warnMs;
  if (box.hidden) return;
  const words = final ? "Your session has reached its longest time. You will be signed out in" : "This page is not used. You will be signed out in";
  const said = box.querySelector("[data-part='words']");
  if (said.textContent !== words) said.textContent = words;
  box.querySelector("button").hidden = final;
  const seconds = Math.max(0, Math.ceil(left / 1000));
  box.querySelector("[data-part='left']").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function tick() {
  const left = deadline - Date.now();
  if (left <= 0) document.documentElement.classList.add("veiled"); // at once; the answer may lift it
  if (left <= warnMs && Date.now() - asked > Math.min(ASK_MS, warnMs)) ask();
  else show();
}

if (total) {
  timer = setInterval(tick, EACH_MS);
  document.addEventListener("visibilitychange", tick);
  addEventListener("focus", tick);
  addEventListener("pageshow", (event) => { if (event.persisted) { asked = 0; document.documentElement.classList.add("veiled"); ask(); } });
  box?.querySelector("button").addEventListener("click", async () => {
    await fetch("/coverage.json", { cache: "no-store" }).catch(() => null); // any question of ours makes it last
    ask();
  });
}
