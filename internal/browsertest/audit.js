// Lists what of the page breaks WCAG 2.2 AA, as far as a program can see it. Each
// check is named by its success criterion.
(() => {
  const bad = [];
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const name = e => e.tagName.toLowerCase() + (e.id ? '#' + e.id : e.className ? '.' + String(e.className).replaceAll(' ', '.') : '') + ' "' + e.textContent.trim().slice(0, 30) + '"';
  const inSentence = e => { const line = e.closest('p, li, dd, td'); return line && line.textContent.trim().length > e.textContent.trim().length && getComputedStyle(e).display === 'inline' };
  const seen = e => e.checkVisibility({ visibilityProperty: true }) && !e.closest('.hidden, .skip');

  // Colours: [red, green, blue, alpha], laid over one another, and their contrast.
  const colour = text => { const c = (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number); return c.length === 3 ? [...c, 1] : c };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = e => {
    const layers = [];
    for (; e; e = e.parentElement) { const c = colour(getComputedStyle(e).backgroundColor); layers.push(c); if (c[3] === 1) break }
    return layers.reduceRight((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const luminance = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b };
  const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + .05) / (y + .05) };

  // 3.1.1, 2.4.2, 2.4.1, 1.3.1: language, title, landmarks, headings, the skip link.
  if (!document.documentElement.lang) bad.push('3.1.1: no lang');
  if (!document.title.trim()) bad.push('2.4.2: no title');
  for (const [what, selector] of [['main', 'main'], ['banner', 'body > header'], ['contentinfo', 'body > footer'], ['h1', 'h1']]) {
    const count = all(selector).length;
    if (count !== 1) bad.push(`1.3.1: ${count} times ${what}`);
  }
  const navs = all('nav');
  if (navs.some(nav => !nav.getAttribute('aria-label'))) bad.push('1.3.1: a nav without a name');
  const skip = document.querySelector('a[href], button, input:not([type=hidden])');
  if (!skip || !skip.matches('.skip[href^="#"]') || !document.querySelector(skip.getAttribute('href'))?.matches('main')) bad.push('2.4.1: the first control does not skip to main');
  let level = 0;
  for (const h of all('h1, h2, h3, h4, h5, h6')) {
    if (h.tagName[1] - level > 1 && level && !h.closest('.prose *')) bad.push('1.3.1: a level is left out before ' + name(h));
    if (!h.textContent.trim()) bad.push('2.4.6: empty ' + name(h));
    level = +h.tagName[1];
  }
  const ids = all('[id]').map(e => e.id);
  for (const id of ids.filter((id, i) => ids.indexOf(id) !== i)) bad.push('1.3.1: twice id ' + id);
  for (const t of all('table')) if (!all('th', t).length || all('th:not([scope])', t).length && t.closest('.prose') === null) bad.push('1.3.1: a table whose headers have no scope');

  // 4.1.2, 3.3.2, 2.5.3: names of controls.
  const named = e => (e.labels?.length ? [...e.labels].map(l => l.textContent).join('') : e.getAttribute('aria-label') || document.getElementById(e.getAttribute('aria-labelledby'))?.textContent || '').trim();
  for (const e of all('input:not([type=hidden]), select, textarea')) if (!named(e)) bad.push('3.3.2: no label: ' + e.name);
  for (const e of all('button, a[href]')) if (!(e.textContent.trim() || named(e))) bad.push('4.1.2: no name: ' + e.outerHTML.slice(0, 60));
  for (const e of all('[aria-label], [aria-labelledby]')) if (e.matches('div, span, p, pre, code, strong, em') && !e.getAttribute('role')) bad.push('4.1.2: a name that is of no role: ' + name(e));
  for (const e of all('[aria-describedby]')) for (const id of e.getAttribute('aria-describedby').split(' ')) if (!document.getElementById(id)) bad.push('1.3.1: describedby nothing: ' + id);
  for (const e of all('[aria-invalid]')) if (!e.getAttribute('aria-describedby')) bad.push('3.3.1: invalid, and no word why: ' + e.name);
  for (const e of all('[tabindex]')) if (e.tabIndex > 0) bad.push('2.4.3: tabindex ' + e.tabIndex);

  // 4.1.3: what changes or went wrong is announced.
  if (all('[aria-invalid]').length && !all('[role=alert]').length) bad.push('4.1.3: a form that was refused announces nothing');
  for (const e of all('.problem')) if (!e.closest('[role=alert], [role=status], [aria-live]')) bad.push('4.1.3: not announced: ' + name(e));
  for (const e of all('[data-stream]')) if (!document.querySelector('[role=status][aria-live=polite]')) bad.push('4.1.3: a live page that announces nothing');

  // 1.4.3: contrast of text; 1.4.11: of the edges of fields.
  for (const e of all('body *')) {
    if (!seen(e)) continue;
    const style = getComputedStyle(e), below = behind(e), size = parseFloat(style.fontSize);
    const text = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    const want = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5;
    const shown = contrast(over(colour(style.color), below), below);
    if ((text || e.matches('input, textarea, select')) && shown < want) bad.push(`1.4.3: ${shown.toFixed(2)}: ${name(e)}`);
    if (e.matches('input:not([type=hidden]), textarea, select, button') && style.borderTopWidth !== '0px') {
      const around = behind(e.parentElement), edge = Math.max(contrast(over(colour(style.borderTopColor), around), around), contrast(below, around));
      if (edge < 3) bad.push(`1.4.11: ${edge.toFixed(2)}: the edge of ${name(e)}`);
    }
    if (e.placeholder) { const p = contrast(over(colour(getComputedStyle(e, '::placeholder').color), below), below); if (p < 4.5) bad.push(`1.4.3: ${p.toFixed(2)}: placeholder of ${e.name}`) }
  }
  // 1.4.1: a link within text is told by more than its colour.
  for (const e of all('a[href]')) if (seen(e) && inSentence(e) && !getComputedStyle(e).textDecorationLine.includes('underline')) bad.push('1.4.1: no underline: ' + name(e));

  // 2.5.8: the size of targets; a link within a sentence may be as its line is.
  for (const e of all('a[href], button, input:not([type=hidden]), select, textarea, summary')) {
    if (!seen(e)) continue;
    if (e.matches('a') && inSentence(e)) continue;
    const { width, height } = e.getBoundingClientRect();
    if (width < 23.9 || height < 23.9) bad.push(`2.5.8: ${width.toFixed(0)} x ${height.toFixed(0)}: ${name(e)}`);
  }

  // 2.1.1: what scrolls can be scrolled with keys.
  for (const e of all('body *')) {
    const style = getComputedStyle(e);
    const scrolls = e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(style.overflowX) || e.scrollHeight > e.clientHeight + 1 && /auto|scroll/.test(style.overflowY);
    if (scrolls && e.tabIndex < 0) bad.push('2.1.1: scrolls, but not with keys: ' + name(e));
  }
  // 2.3.3, and ours: who asks for less motion gets none.
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) {
    for (const e of all('body *')) for (const pseudo of [null, '::before', '::after']) {
      const style = getComputedStyle(e, pseudo);
      if (style.animationName !== 'none' || style.transitionDuration.split(',').some(d => parseFloat(d) > 0)) bad.push('2.3.3: moves: ' + name(e));
    }
  }
  return bad;
})()
