"use strict";
(() => {
  const most = 200; // changes that the list keeps
  const every = 3000; // milliseconds between two looks at what changes all the time
  const $ = id => document.getElementById(id);
  const live = $("live"), events = $("events"), query = $("q"), explain = $("explain"), dialog = $("token");
  document.documentElement.classList.add("scripted");

  // What the server renders replaces what was there, but never under somebody's
  // hands: not what is selected, and the focus stays where it is.
  function swap(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    const selection = getSelection();
    for (const part of fresh.querySelectorAll("[data-part]")) {
      const old = $(part.id);
      if (!old || old.innerHTML === part.innerHTML) continue;
      if (!selection.isCollapsed && old.contains(selection.anchorNode)) continue;
      const focus = old.contains(document.activeElement) ? mark(document.activeElement) : "";
      old.replaceChildren(...part.childNodes);
      if (focus) [...old.querySelectorAll("a,button,[tabindex]")].find(e => mark(e) === focus)?.focus({preventScroll: true});
    }
  }
  const mark = e => [e.tagName, e.id, e.getAttribute("href"), e.dataset.service, e.dataset.instance, e.dataset.node].join(" ");

  let busy = false, again = false, timer = 0;
  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch("/parts?q=" + encodeURIComponent(query.value), {cache: "no-store"});
      if (answer.ok) swap(await answer.text());
    } catch { /* the stream of changes tells that the gateway is gone */ }
    busy = false;
    if (again) { again = false; soon(100); }
  }
  function soon(wait) {
    clearTimeout(timer);
    timer = setTimeout(refresh, wait);
  }
  setInterval(() => { if (!document.hidden) refresh(); }, every);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

  // The address has the search and the question, to keep and to pass on.
  function remember() {
    const about = new URLSearchParams();
    if (query.value) about.set("q", query.value);
    if (explain.ask.value && $("answer").textContent.trim()) about.set("ask", explain.ask.value);
    history.replaceState(null, "", about.size ? "/?" + about : "/");
  }
  query.addEventListener("input", () => { remember(); soon(150); });
  $("search").addEventListener("submit", e => { e.preventDefault(); soon(0); });

  async function ask() {
    const answer = await fetch("/parts/answer?" + new URLSearchParams(new FormData(explain)), {cache: "no-store"}).catch(() => null);
    if (answer?.ok) $("answer").innerHTML = await answer.text();
    else $("answer").textContent = "The gateway does not answer.";
    remember();
  }
  explain.addEventListener("submit", e => { e.preventDefault(); ask(); });
  document.addEventListener("click", e => {
    const link = e.target.closest("a[data-ask]"), button = e.target.closest("button[data-instance]");
    if (link && !e.ctrlKey && !e.metaKey && !e.shiftKey) {
      e.preventDefault();
      explain.ask.value = link.dataset.ask;
      ask().then(() => explain.scrollIntoView({block: "nearest"}));
    }
    if (button) {
      const {service, instance, node, drain: on} = button.dataset;
      drain({service, instance, node, on});
    }
  });

  // The token is kept as long as the page is open, and nowhere else.
  let token = "";
  function want(change, why) {
    $("h-token").textContent = (change.on === "true" ? "Drain " : "Resume ") + change.instance + (change.node ? " on " + change.node : "");
    $("why").textContent = why;
    $("secret").value = "";
    dialog.onclose = () => {
      if (dialog.returnValue !== "go") return;
      token = $("secret").value;
      $("secret").value = "";
      drain(change);
    };
    dialog.returnValue = "";
    dialog.showModal();
  }
  async function drain(change) {
    if (!token) return want(change, "");
    const answer = await fetch("/drain?" + new URLSearchParams(change), {method: "POST", headers: {Authorization: "Bearer " + token}}).catch(() => null);
    if (answer?.ok) return refresh();
    token = "";
    want(change, (await answer?.json().catch(() => null))?.error || "The gateway does not answer.");
  }

  const ms = ns => !ns ? "" : ns < 1e7 ? "in " + (ns / 1e6).toFixed(1) + " ms" : "in " + Math.round(ns / 1e6) + " ms";
  function add(change) {
    const item = $("event").content.cloneNode(true);
    const [time, kind, effect, subject, text] = ["time", ".kind", ".effect", ".subject", ".text"].map(s => item.querySelector(s));
    time.dateTime = time.title = change.at;
    time.textContent = new Date(change.at).toISOString().slice(11, 19);
    kind.textContent = change.kind;
    kind.classList.add(change.kind);
    effect.textContent = (change.index ? "index " + change.index + " " : "") + ms(change.effect_ns);
    subject.textContent = change.subject;
    text.textContent = change.text;
    events.prepend(item);
    while (events.children.length > most) events.lastElementChild.remove();
    $("calm").hidden = true;
  }
  const source = new EventSource("/events?after=" + encodeURIComponent(events.dataset.after));
  const say = (text, how) => { live.textContent = text; live.className = "badge " + how; };
  source.onopen = () => { say("live", "good"); soon(100); };
  source.onerror = () => say(source.readyState === EventSource.CLOSED ? "not live: load the page again" : "not live: the gateway does not answer", "bad");
  source.addEventListener("change", e => { add(JSON.parse(e.data)); if (!document.hidden) soon(100); });
  source.addEventListener("restart", () => location.reload());
})();
