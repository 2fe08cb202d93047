// What is wrong with a page by WCAG 2.2 AA, as far as a script can tell: contrast of every text against what is behind it
// (1.4.3), size of controls (2.5.8), names of controls (4.1.2), reflow (1.4.10), headings in order. An empty list is good.
() => {
  const found = [];
  const text = (node) => node.textContent.trim().slice(0, 40);
  const rgba = (text) => { const m = text.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const light = (c) => c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const shown = (node) => {
    const box = node.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && node.checkVisibility({ visibilityProperty: true });
  };
  for (const node of document.querySelectorAll("body *")) {
    const worded = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!worded || !shown(node) || node.closest(".skip, noscript")) continue;
    const style = getComputedStyle(node), back = ground(node), front = over(rgba(style.color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(2)} ${node.className || node.tagName} ${text(node)}`);
  }
  for (const node of document.querySelectorAll("a, button, input:not([type=hidden]), select, summary")) {
    const box = node.getBoundingClientRect();
    if (shown(node) && box.height < 22 && !node.closest("p, li li, .skip")) found.push(`small ${text(node)} ${box.height}`);
  }
  for (const node of document.querySelectorAll("a, button, input:not([type=hidden]), select")) {
    const named = node.textContent.trim() || node.getAttribute("aria-label") || node.labels?.length;
    if (shown(node) && !named) found.push(`no name ${node.outerHTML.slice(0, 80)}`);
  }
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) found.push(`wider than the window: ${wide}`);
  if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
  const levels = [...document.querySelectorAll("h1, h2, h3")].filter(shown).map((h) => Number(h.tagName[1]));
  levels.forEach((level, i) => { if (i && level > levels[i - 1] + 1) found.push(`heading ${i} jumps`); });
  return found;
}
