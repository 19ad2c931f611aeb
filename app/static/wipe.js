// Moves the dividers of `components.wipe`, wherever and whenever they are drawn.
(() => {
  'use strict';
  const places = new Map();  // by name: HTML that is drawn again keeps its divider

  function put(figure, place) {
    figure.style.setProperty('--pl-wipe', `${place}%`);
    figure.querySelector('input').setAttribute('aria-valuetext', `${Math.round(place)}% from the left`);
  }

  document.addEventListener('input', event => {
    const figure = event.target.closest?.('[data-wipe]');
    if (!figure) return;
    places.set(figure.dataset.wipe, event.target.value);
    put(figure, event.target.value);
  });

  document.addEventListener('keydown', event => {  // a finer and a wider step than "any" gives
    const slider = event.target.closest?.('[data-wipe] input');
    const step = {ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10}[event.key];
    if (!slider || !step || event.altKey || event.ctrlKey || event.metaKey) return;
    slider.value = Number(slider.value) + step;
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    event.preventDefault();
  });

  document.addEventListener('load', event => {
    const figure = event.target.closest?.('[data-wipe]');
    if (!figure || !places.has(figure.dataset.wipe)) return;
    figure.querySelector('input').value = places.get(figure.dataset.wipe);
    put(figure, places.get(figure.dataset.wipe));
  }, true);
})();
