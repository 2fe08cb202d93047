// Keys, wheel, mouse, touch, slider and buttons, as acts of a viewer: step, go, neighbour, zoom, pan, window, invert, again.

const NOTCH = 120; // of wheelDelta: what one notch of a mouse's wheel is in every browser that has it
const SMALL = 40; // pixels of a trackpad for one image

/** How many images a turn of the wheel means, and what is left over of a trackpad's small ones.
 *
 * One notch is one image, whatever pixels or lines the browser makes of it; Shift makes it ten.
 */
export function turnOf(event, left = 0) {
  const lines = event.deltaMode !== 0; // read first: some browsers then give lines, else pixels
  const delta = event.deltaY || event.deltaX; // Shift turns the wheel sideways in some browsers
  if (!delta) return { steps: 0, left };
  const faster = event.shiftKey ? 10 : 1;
  const ticks = Math.abs((event.deltaY ? event.wheelDeltaY : event.wheelDeltaX) || 0);
  const notches = ticks && ticks % NOTCH === 0 ? ticks / NOTCH : 0;
  if (lines || notches || Math.abs(delta) >= 50) {
    const guess = lines ? 1 : Math.round(Math.abs(delta) / NOTCH);
    return { steps: Math.sign(delta) * Math.max(1, notches || guess) * faster, left: 0 };
  }
  const turned = (Math.sign(left) === Math.sign(delta) ? left : 0) + delta;
  const steps = Math.trunc(turned / SMALL);
  return { steps: steps * faster, left: turned - steps * SMALL };
}

/** Bind a viewer's page to its acts. */
export function bind(part, act) {
  keys(part, act);
  wheel(part, act);
  pointers(part, act);
  part.slider.addEventListener("input", () => act.go(Number(part.slider.value) - 1));
  part.page.querySelectorAll("[data-step]").forEach((one) => one.addEventListener("click", () => act.step(Number(one.dataset.step))));
  part.page.querySelectorAll("[data-zoom]").forEach((one) => one.addEventListener("click", () => act.zoom(Number(one.dataset.zoom))));
  part.again.addEventListener("click", () => act.again());
  part.invert.addEventListener("click", () => part.invert.setAttribute("aria-pressed", String(part.stage.classList.toggle("stage--invert"))));
  windows(part, act);
  part.page.querySelectorAll(".series").forEach((link) => link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    act.choose(link);
    focus(part);
  }));
}

/** Give the image the keys, without the bright ring of a focus that the reader did not move. */
export function focus(part) {
  part.stage.classList.add("stage--quiet");
  part.stage.focus({ preventScroll: true, focusVisible: false });
}

function keys(part, act) {
  const table = {
    ArrowUp: () => act.step(-1), ArrowDown: () => act.step(1), PageUp: () => act.step(-10), PageDown: () => act.step(10),
    Home: () => act.go(0), End: () => act.go(Infinity), ArrowLeft: () => act.neighbour(-1), ArrowRight: () => act.neighbour(1),
    "+": () => act.zoom(1.25), "=": () => act.zoom(1.25), "-": () => act.zoom(0.8), 0: () => act.zoom(0),
  };
  part.stage.addEventListener("keydown", (event) => {
    if (event.target !== part.stage) return;
    const found = event.ctrlKey || event.metaKey || event.altKey ? null : table[event.key];
    if (!found) return;
    event.preventDefault();
    found();
  });
  part.stage.addEventListener("blur", () => part.stage.classList.remove("stage--quiet"));
}

// By mouse a choice is done and the keys are the image's again; by keyboard the menu keeps them.
function windows(part, act) {
  let byKey = false;
  part.presets.addEventListener("pointerdown", () => { byKey = false; });
  part.presets.addEventListener("keydown", () => { byKey = true; });
  part.presets.addEventListener("change", () => {
    act.window(part.presets.value);
    if (!byKey) focus(part);
  });
}

function wheel(part, act) {
  let left = 0;
  part.stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) return act.zoom(event.deltaY < 0 ? 1.15 : 0.87);
    const turn = turnOf(event, left);
    left = turn.left;
    if (turn.steps) act.step(turn.steps);
  }, { passive: false });
}

// One finger or the mouse goes through the images (sideways by touch, so that the page still scrolls), or moves a zoomed picture;
// two fingers zoom.
function pointers(part, act) {
  const down = new Map();
  let drag = null;
  const begin = () => {
    const [a, b] = [...down.values()];
    drag = { x: a.x, y: a.y, taken: 0, apart: b ? Math.hypot(a.x - b.x, a.y - b.y) : 0 };
  };
  part.stage.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button")) return;
    down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    part.stage.setPointerCapture(event.pointerId);
    begin();
  });
  part.stage.addEventListener("pointermove", (event) => {
    if (!down.has(event.pointerId)) return;
    down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const [a, b] = [...down.values()];
    if (b) {
      const apart = Math.hypot(a.x - b.x, a.y - b.y);
      if (drag.apart > 10) act.zoom(apart / drag.apart);
      drag.apart = apart;
      return;
    }
    const [right, below] = [a.x - drag.x, a.y - drag.y];
    if (act.zoomed()) {
      act.pan(right, below);
      Object.assign(drag, { x: a.x, y: a.y });
      return;
    }
    const touch = event.pointerType !== "mouse";
    const way = (touch ? -right : below) / act.perImage(touch);
    const steps = Math.trunc(way) - drag.taken;
    if (steps) {
      drag.taken += steps;
      act.step(steps);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    part.stage.addEventListener(end, (event) => {
      if (down.delete(event.pointerId) && down.size) begin();
    });
  }
  // Two fingers are ours, wherever they move: the browser neither scrolls nor zooms the page with them.
  part.stage.addEventListener("touchmove", (event) => { if (event.touches.length > 1) event.preventDefault(); }, { passive: false });
}
