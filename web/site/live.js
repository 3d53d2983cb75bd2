(() => {
  const live = document.getElementById('live'), state = document.getElementById('stream');
  const news = document.getElementById('news'), button = document.getElementById('pause');
  let source, timer, told, newest;
  const say = text => { if (state.textContent !== text) state.textContent = text };
  const texts = selector => [...live.querySelectorAll(selector)].map(e => e.textContent.trim());
  // What a listener is told: notices that are not those of before, and every change since, the oldest first.
  const unheard = () => {
    const notices = texts('.warn').join(' '), changes = texts('#events li'), known = changes.indexOf(newest);
    const words = known < 0 ? changes : changes.slice(0, known);
    words.reverse();
    if (notices !== told) words.unshift(notices);
    [told, newest] = [notices, changes[0] ?? newest];
    return words.join(' ').trim();
  };
  const close = () => { clearTimeout(timer); source?.close(); source = null };
  const open = () => {
    source = new EventSource(live.dataset.stream);
    source.onopen = () => say('Live: what changes shows here at once.');
    source.addEventListener('topology', event => {
      live.innerHTML = event.data;
      const served = live.querySelector('[data-node]').dataset; // the stream may come from another instance, in another datacenter
      for (const part of ['node', 'datacenter']) document.getElementById(part).textContent = served[part];
      const passing = document.querySelector('[data-passes]'); // why the page was refused when it was loaded
      if (passing && served.answers.split(' ').includes(passing.dataset.passes)) {
        document.title = passing.dataset.title;
        passing.remove();
      }
      const words = unheard();
      if (words) news.textContent = words;
    });
    source.onerror = () => {
      say('The connection is lost. What is below is the last known state; trying again.');
      if (source.readyState === 2) { close(); timer = setTimeout(open, 1000) }
    };
  };
  unheard();
  button.hidden = false;
  button.onclick = () => {
    if (source || timer) { close(); timer = 0; say('Paused.'); button.textContent = 'Go on' }
    else { open(); button.textContent = 'Pause' }
  };
  addEventListener('pagehide', close);
  addEventListener('pageshow', event => { if (event.persisted && button.textContent === 'Pause') open() });
  open();
})();
