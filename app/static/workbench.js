// What the frame does in the browser alone: theme, job drawer, key sheet, keys of the page.
(() => {
  'use strict';
  const STORED = 'promptloupe-theme';

  function setTheme(name) {
    localStorage.setItem(STORED, name);
    document.body.classList.toggle('dark', name === 'dark');
    setQuery('__theme', name);
  }

  // Gradio reads the theme from the address when it starts, which is before this runs: links to pages carry it.
  function carryTheme(link) {
    const chosen = localStorage.getItem(STORED);
    const url = new URL(link.href, document.baseURI);
    if (!chosen || url.origin !== window.location.origin || url.pathname.includes('/gradio_api/')) return;
    url.searchParams.set('__theme', chosen);
    link.href = url;
  }

  function setQuery(name, value) {
    const url = new URL(window.location.href);
    if (value === null || value === undefined || value === '') url.searchParams.delete(name);
    else url.searchParams.set(name, value);
    history.replaceState(null, '', url);
  }

  function drawer(open) {
    const panel = document.getElementById('pl-drawer');
    if (panel?.toggleAttribute('data-open', open)) panel.querySelector('[data-drawer="close"]')?.focus();
  }

  function keySheet() {
    const sheet = document.getElementById('pl-keys');
    if (sheet && !sheet.open) sheet.showModal();
  }

  function turn(tour, what) {
    const card = tour.querySelector('.pl-tour-card');
    const steps = [...card.querySelectorAll('.pl-tour-step')];
    let at = steps.findIndex(step => !step.hidden);
    if (what === 'begin') at = 0;
    if (what === 'next') at += 1;
    if (what === 'back') at = Math.max(0, at - 1);
    const over = what === 'skip' || at >= steps.length;
    card.hidden = over;
    tour.querySelector('.pl-tour-offer').hidden = !over;
    if (over) at = 0;
    steps.forEach((step, place) => { step.hidden = place !== at; });
    card.querySelector('[data-tour="back"]').disabled = at === 0;
    card.querySelector('[data-tour="next"]').textContent = at === steps.length - 1 ? 'Done' : 'Next';
    if (!over) card.querySelector('[data-tour="next"]').focus();
  }

  document.addEventListener('click', event => {
    const at = selector => event.target.closest?.(selector);
    const toggle = at('[data-drawer]');
    if (toggle) drawer(toggle.dataset.drawer === 'toggle' ? undefined : false);
    else if (!at('#pl-drawer')) drawer(false);
    if (at('a[href]')) carryTheme(at('a[href]'));
    if (at('[data-theme]')) setTheme(document.body.classList.contains('dark') ? 'light' : 'dark');
    if (at('[data-keys]')) keySheet();
    const tour = at('[data-tour]');
    if (tour) turn(tour.closest('.pl-tour'), tour.dataset.tour);
  });

  // Arrows walk through a gallery once one of its images has the focus.
  function walk(event) {
    const cell = event.target.closest?.('.pl-gallery > button');
    if (!cell || !event.key.startsWith('Arrow')) return false;
    const cells = [...cell.parentElement.children];
    const columns = getComputedStyle(cell.parentElement).gridTemplateColumns.split(' ').length;
    const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[event.key];
    cells[cells.indexOf(cell) + step]?.focus();
    event.preventDefault();
    return true;
  }

  const typing = target => target.closest?.('input, textarea, select, [contenteditable="true"], [role="listbox"], [role="slider"]');
  document.addEventListener('keydown', event => {
    if (event.key === 'Escape') drawer(false);
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector('dialog[open]')) return;
    if (walk(event)) return;
    if (event.key === '?') keySheet();
    else if (event.key.toLowerCase() === 'j') drawer();
    else {
      // A button names its own key: <button data-key="ArrowRight">, or a Gradio button with the class pl-key-n.
      const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      if (document.body.hasAttribute('data-loading')) return;
      const button = document.querySelector(`[data-key="${CSS.escape(name)}"]:not(:disabled), .pl-key-${CSS.escape(name)}:not(:disabled)`);
      if (!button) return;
      button.click();
    }
    event.preventDefault();
  });

  const address = new URL(window.location.href).searchParams.get('__theme');
  const theme = address || localStorage.getItem(STORED);
  if (theme) setTheme(theme === 'dark' ? 'dark' : 'light');

  // A page that opens asks the server what to show. A click before these answers would be undone by them.
  const PATIENCE = 10000; // milliseconds: a server that does not answer must not freeze the page
  let awaited = 0;
  function loading(count) {
    awaited = count;
    document.body.toggleAttribute('data-loading', true);
    setTimeout(ready, PATIENCE);
  }
  function loaded() {
    awaited -= 1;
    if (awaited <= 0) ready();
  }
  const ready = () => document.body.removeAttribute('data-loading');

  window.promptloupe = {setQuery, loading, loaded};
})();
