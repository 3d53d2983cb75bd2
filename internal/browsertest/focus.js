// Tells which control has the focus, and whether a person can see that it has.
(() => {
  const stops = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')]
    .filter(e => e.tabIndex >= 0 && !e.disabled && e.type !== 'hidden' && e.checkVisibility());
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect(), wrongs = [];
  const name = e.tagName.toLowerCase() + '#' + e.id + ' "' + e.textContent.trim().slice(0, 30) + '"';
  const at = stops.indexOf(e);
  if (at >= 0) {
    const rgb = text => text.match(/[\d.]+/g).map(Number);
    let around = e.parentElement;
    while (around.parentElement && /, 0\)$/.test(getComputedStyle(around).backgroundColor)) around = around.parentElement;
    const luminance = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b };
    const [x, y] = [luminance(rgb(style.outlineColor)), luminance(rgb(getComputedStyle(around).backgroundColor))].sort((p, q) => q - p);
    if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2) wrongs.push('2.4.7: the focus is not seen on ' + name);
    else if ((x + .05) / (y + .05) < 3) wrongs.push('2.4.13: the focus is hardly seen on ' + name);
    if (box.top < 0 || box.left < 0 || box.top >= innerHeight || box.left >= innerWidth) wrongs.push('2.4.11: the focus is out of sight on ' + name);
    else {
      const [line] = e.getClientRects(), top = document.elementFromPoint(Math.min(line.left + line.width / 2, innerWidth - 1), Math.min(line.top + Math.min(line.height, 40) / 2, innerHeight - 1));
      if (top && top !== e && !e.contains(top) && !top.contains(e)) wrongs.push('2.4.11: the focus is hidden on ' + name);
    }
  }
  return { name, at, reach: stops.length, wrongs };
})()
