// What is wanted and what is shown, and the rules between them. Pure: no page, no network.
//
// `wanted` is what the reader asks for; only the slider and the window's menu tell it. `shown` is what is painted: it changes in
// one step together with the pixels, and everything written on or beside the picture comes from it.

export const AHEAD = 24; // how far pictures are fetched ahead, on either side
export const PARALLEL = 4; // at once, when what is wanted is shown already

export const NOTHING = { kind: "nothing", series: null, index: -1, count: 0, url: "", window: null, bitmap: null, why: null };

export const clamp = (n, low, high) => Math.min(high, Math.max(low, n));
const value = (row, tag) => row[tag]?.Value?.[0];
const numbers = (row, tag, n) => {
  const found = (row[tag]?.Value || []).map(Number);
  return found.length === n && found.every(Number.isFinite) ? found : null;
};

/** The attributes that ordering and sizing need beyond those that every row has. */
export const FIELDS = ["ImagePositionPatient", "ImageOrientationPatient", "PixelAspectRatio"];

/** Rows of a series as they follow each other in space, where all say where they lie in one direction; else by Instance Number;
 * then by UID. The way through space is the one in which the Instance Numbers run. */
export function ordered(rows) {
  const number = (row) => { const n = Number(value(row, "00200013") ?? NaN); return Number.isFinite(n) ? n : Infinity; };
  const uid = (row) => String(value(row, "00080018") ?? "");
  const byNumber = (a, b) => (number(a) === number(b) ? 0 : number(a) - number(b)) || (uid(a) < uid(b) ? -1 : uid(a) > uid(b) ? 1 : 0);
  const sorted = [...rows].sort(byNumber);
  const depth = depths(sorted);
  if (!depth) return sorted;
  const along = (row) => depth.get(row);
  const numbered = sorted.filter((row) => Number.isFinite(number(row)));
  const back = numbered.length > 1 && along(numbered[0]) > along(numbered.at(-1)) ? -1 : 1;
  return sorted.sort((a, b) => back * (along(a) - along(b)) || byNumber(a, b));
}

/** Row -> millimetres along the normal of the planes (PS3.3 C.7.6.2.1.1), or null where they are not all parallel and placed. */
function depths(rows) {
  const found = new Map();
  let normal = null;
  for (const row of rows) {
    const [at, plane] = [numbers(row, "00200032", 3), numbers(row, "00200037", 6)];
    if (!at || !plane) return null;
    const [a, b, c, d, e, f] = plane;
    const own = [b * f - c * e, c * d - a * f, a * e - b * d];
    normal ??= own;
    const cosine = own.reduce((sum, part, i) => sum + part * normal[i], 0);
    if (!(cosine > 0.999 && cosine < 1.001)) return null;
    found.set(row, Math.round(100 * at.reduce((sum, part, i) => sum + part * normal[i], 0)) / 100);
  }
  return found.size ? found : null;
}

/** The frames of a series in their order: {path, sides} each; `sides` as shown in square pixels, or null where not known. */
export function framesOf(rows) {
  const list = [];
  for (const row of ordered(rows)) {
    const sop = value(row, "00080018");
    if (!sop) continue;
    const n = Math.max(1, Number(value(row, "00280008") ?? 1) || 1);
    const sides = sidesOf(row);
    for (let frame = 1; frame <= n; frame += 1) list.push({ path: `instances/${sop}/frames/${frame}/rendered`, sides });
  }
  return list;
}

function sidesOf(row) {
  const [high, wide] = [Number(value(row, "00280010")), Number(value(row, "00280011"))];
  if (!(high > 0 && wide > 0)) return null;
  const [down, across] = numbers(row, "00280034", 2) || [1, 1];
  const square = down > 0 && across > 0 && down / across >= 0.25 && down / across <= 4; // as the holder does (C.7.6.3.1.7)
  return [wide, square ? Math.max(1, Math.round((high * down) / across)) : high];
}

/** The viewport to ask for, in pixels: the picture as it is shown, in steps of 128, and never more than is stored ("" = as stored). */
export function viewportOf(sides, [wide, high], pixels) {
  if (!(wide > 0 && high > 0)) return "";
  const step = (side) => Math.ceil(side / 128) * 128;
  if (!sides) {
    const side = clamp(step(Math.max(wide, high) * pixels), 128, 1024);
    return `${side},${side}`;
  }
  const scale = Math.min(wide / sides[0], high / sides[1]) * pixels;
  const side = step(Math.max(...sides) * scale);
  return side >= Math.max(...sides) ? "" : `${side},${side}`;
}

/** The nearest index to `wanted` of which `has` says yes and that is nearer than `limit`, or -1. */
export function nearest(wanted, count, limit, has) {
  for (let far = 0; far < Math.min(limit, count); far += 1) {
    if (wanted + far < count && has(wanted + far)) return wanted + far;
    if (wanted - far >= 0 && has(wanted - far)) return wanted - far;
  }
  return -1;
}

/** Which pictures to ask for, first first, and how many at once. What is in flight and not among them is aborted.
 *
 * While what is wanted is not there, the line is for it alone, but for one picture under way that lies nearer to it than what is
 * shown: it is let through, so that something moves on a slow line however fast the reader does. Nothing is fetched ahead while
 * there is trouble that may pass.
 */
export function planOf({ wanted, count, distance, towards, settled, trouble, has, failed, flying }) {
  if (!has(wanted) && !failed(wanted)) {
    if (flying.includes(wanted)) return { order: [wanted], parallel: 1 };
    const useful = flying.filter((index) => Math.abs(index - wanted) < distance);
    useful.sort((a, b) => Math.abs(a - wanted) - Math.abs(b - wanted));
    if (!useful.length) return { order: [wanted], parallel: 1 };
    return settled ? { order: [wanted, useful[0]], parallel: 2 } : { order: [useful[0]], parallel: 1 };
  }
  const order = [];
  if (failed(wanted) || trouble) return { order, parallel: 0 };
  for (let far = 1; far <= AHEAD; far += 1) {
    for (const index of towards < 0 ? [wanted - far, wanted + far] : [wanted + far, wanted - far]) {
      if (index >= 0 && index < count && !has(index) && !failed(index)) order.push(index);
    }
  }
  return { order, parallel: PARALLEL };
}
