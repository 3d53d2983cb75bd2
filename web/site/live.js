(() => {
  const live = document.getElementById('live'), state = document.getElementById('stream');
  const news = document.getElementById('news'), button = document.getElementById('pause');
  let source, timer, told;
  const say = text => { if (state.textContent !== text) state.textContent = text };
  // What a listener is told: the notices and the newest change.
  const latest = () => [...live.querySelectorAll('.warn, #events li:first-child')].map(e => e.textContent.trim()).join(' ');
  const close = () => { clearTimeout(timer); source?.close(); source = null };
  const open = () => {
    source = new EventSource(live.dataset.stream);
    source.onopen = () => say('Live: what changes shows here at once.');
    source.addEventListener('topology', event => {
      live.innerHTML = event.data;
      document.getElementById('node').textContent = live.querySelector('[data-node]').dataset.node; // the stream may come from another instance
      if (latest() !== told) news.textContent = told = latest();
    });
    source.onerror = () => {
      say('The connection is lost. What is below is the last known state; trying again.');
      if (source.readyState === 2) { close(); timer = setTimeout(open, 1000) }
    };
  };
  told = latest();
  button.hidden = false;
  button.onclick = () => {
    if (source || timer) { close(); timer = 0; say('Paused.'); button.textContent = 'Go on' }
    else { open(); button.textContent = 'Pause' }
  };
  addEventListener('pagehide', close);
  addEventListener('pageshow', event => { if (event.persisted && button.textContent === 'Pause') open() });
  open();
})();
