// Pages the slides by keys, by the wheel of a presenter, or by a press on the right or left half.
(() => {
  'use strict';
  const pages = [...document.querySelectorAll('main > section')];
  const sheet = document.getElementById('keys');
  let at = 0;

  function show(place) {
    at = Math.min(Math.max(place, 0), pages.length - 1);
    pages.forEach((page, n) => { page.hidden = n !== at; });
    document.getElementById('place').textContent = `${at + 1} / ${pages.length}`;
  }

  const moves = {
    ArrowRight: 1, ArrowDown: 1, PageDown: 1, ' ': 1, Enter: 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1, Backspace: -1,
    Home: -Infinity, End: Infinity
  };
  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === '?') sheet.hidden = !sheet.hidden;
    else if (event.key === 'Escape') {
      // Shown inside the workbench, leaving is up to the page around it.
      if (!sheet.hidden) sheet.hidden = true;
      else window.parent.postMessage('promptloupe-leave', '*');
    } else if (event.key in moves) {
      sheet.hidden = true;
      show(event.key === ' ' && event.shiftKey ? at - 1 : at + moves[event.key]);
    } else return;
    event.preventDefault();
  });
  document.addEventListener('click', event => {
    if (sheet.hidden) show(event.clientX < window.innerWidth / 3 ? at - 1 : at + 1);
    sheet.hidden = true;
  });
  document.addEventListener('contextmenu', event => event.preventDefault());
  show(0);
})();
