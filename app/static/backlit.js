// Shows two versions of a photo under one zoom. What is shown and how close stays when another photo comes.
const part = name => element.querySelector(`[data-part="${name}"]`);
const all = selector => [...element.querySelectorAll(selector)];
const MOST = 16, NEAR = 28;
const NO_LIGHT = 'Only trained light-map networks have a light map. Choose one on the right.';
const HOLD = 'Hold the mouse button or Space to see the left one.';
let mode = 'wipe', zoom = 1, x = 0, y = 0, given = null, blinking = null;

const between = (value, low, high) => Math.min(Math.max(value, low), high);

// --- one zoom for all views: x and y are where the photo's corner lies, in parts of the frame ---

function place() {
  x = between(x, 1 - zoom, 0);
  y = between(y, 1 - zoom, 0);
  const stage = part('stage');
  stage.style.setProperty('--pl-zoom', zoom);
  stage.style.setProperty('--pl-x', `${100 * x}%`);
  stage.style.setProperty('--pl-y', `${100 * y}%`);
  stage.classList.toggle('close', zoom >= 4);
  stage.classList.toggle('zoomed', zoom > 1);
  part('zoom').textContent = `${Math.round(100 * zoom)}%`;
}

function zoomTo(value, atX = 0.5, atY = 0.5) {
  const next = between(value, 1, MOST);
  x = atX - (atX - x) * next / zoom;
  y = atY - (atY - y) * next / zoom;
  zoom = next;
  place();
}

const frameOf = target => target.closest?.('.pl-view-pane, .pl-wipe-stage');

function spot(frame, event) {
  const box = frame.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

element.addEventListener('wheel', event => {
  const frame = frameOf(event.target);
  if (!frame || (zoom === 1 && event.deltaY > 0)) return;  // the page scrolls on
  event.preventDefault();
  zoomTo(zoom * Math.exp(-between(event.deltaY, -200, 200) / 300), ...spot(frame, event));
}, {passive: false});

function nearDivider(frame, event) {
  const divider = frame.querySelector('.pl-wipe-divider');
  return divider && Math.abs(event.clientX - divider.getBoundingClientRect().left) < NEAR;
}

element.addEventListener('mousedown', event => {  // keeps the divider where it is while a zoomed photo is dragged
  const frame = frameOf(event.target);
  if (frame && zoom > 1 && !nearDivider(frame, event)) event.preventDefault();
});

element.addEventListener('pointerdown', event => {
  const frame = frameOf(event.target);
  if (!frame || event.button) return;
  if (mode === 'flicker') hold(true);
  if (zoom === 1 || nearDivider(frame, event)) return;
  const box = frame.getBoundingClientRect();
  const from = [event.clientX, event.clientY, x, y];
  const move = to => {
    x = from[2] + (to.clientX - from[0]) / box.width;
    y = from[3] + (to.clientY - from[1]) / box.height;
    place();
  };
  window.addEventListener('pointermove', move);
  window.addEventListener('pointerup', () => window.removeEventListener('pointermove', move), {once: true});
});
window.addEventListener('pointerup', () => hold(false));

element.addEventListener('keydown', event => {
  if (event.target.matches('input, button') || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = {ArrowLeft: [.1, 0], ArrowRight: [-.1, 0], ArrowUp: [0, .1], ArrowDown: [0, -.1]}[event.key];
  if (event.key === ' ' && mode === 'flicker') hold(true);
  else if (event.key === '+' || event.key === '=') zoomTo(zoom * 1.5);
  else if (event.key === '-') zoomTo(zoom / 1.5);
  else if (step && zoom > 1) { x += step[0]; y += step[1]; place(); }
  else return;
  event.preventDefault();
  event.stopPropagation();
});
element.addEventListener('keyup', event => { if (event.key === ' ') hold(false); });

// --- views ---

function hold(left) {
  const pane = element.querySelector('[data-pane="flicker"]');
  if (!given || !pane) return;
  pane.classList.toggle('left', left);
  pane.querySelector('[data-title]').textContent = (left ? given.left : given.right).title;
}

function blink() {
  clearInterval(blinking);
  const pane = element.querySelector('[data-pane="flicker"]');
  if (mode === 'flicker' && part('blink').checked) blinking = setInterval(() => hold(!pane.classList.contains('left')), 700);
}

function enter(name) {
  mode = name;
  for (const view of all('[data-view]')) view.hidden = view.dataset.view !== name;
  for (const only of all('[data-only]')) only.hidden = only.dataset.only !== name;
  for (const button of all('[data-mode]')) button.setAttribute('aria-pressed', button.dataset.mode === name);
  hold(false);
  blink();
  if (name === 'difference') difference();
}

function picture(address) {
  return new Promise((done, fail) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = fail;
    image.src = address;
  });
}

function pixels(image) {
  const canvas = document.createElement('canvas');
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  pen.drawImage(image, 0, 0);
  return pen.getImageData(0, 0, canvas.width, canvas.height);
}

async function difference() {
  const asked = given, gain = Number(part('gain').value);
  const [left, right] = (await Promise.all([asked.left.source, asked.right.source].map(picture))).map(pixels);
  if (asked !== given || gain !== Number(part('gain').value)) return;
  for (let i = 0; i < left.data.length; i++) {
    if (i % 4 < 3) left.data[i] = gain * Math.abs(left.data[i] - right.data[i]);
  }
  const canvas = part('canvas');
  canvas.width = left.width;
  canvas.height = left.height;
  canvas.getContext('2d').putImageData(left, 0, 0);
  canvas.dataset.drawn = gain;
}

element.addEventListener('click', event => {
  const way = event.target.closest('[data-mode]')?.dataset.mode;
  const to = event.target.closest('[data-zoom]')?.dataset.zoom;
  if (way) enter(way);
  if (to) zoomTo({in: zoom * 1.5, out: zoom / 1.5, fit: 1}[to]);
});
element.addEventListener('input', event => {
  if (event.target === part('gain')) { part('times').textContent = part('gain').value; difference(); }
  if (event.target === part('blink')) blink();
});

async function show() {
  const next = props.value ? JSON.parse(props.value) : null;
  part('all').hidden = !next;
  given = next;
  if (!next) return;
  const sides = [next.left, next.right];
  all('.pl-wipe-layer img').forEach((image, i) => { image.src = sides[i].source; image.alt = sides[i].title; });
  all('.pl-wipe-title:not([data-title])').forEach((title, i) => { title.textContent = sides[i].title; });
  element.querySelector('.pl-wipe input').setAttribute('aria-label', `Divider between ${sides[0].title} and ${sides[1].title}`);
  const titles = {left: next.left.title, right: next.right.title, flicker: next.right.title,
    difference: `${next.left.title} against ${next.right.title}`, light: next.light ? next.light.title : NO_LIGHT};
  for (const title of all('[data-title]')) title.textContent = titles[title.dataset.title];
  for (const image of all('[data-side]')) {
    const side = next[image.dataset.side];
    image.hidden = !side;
    if (side) { image.src = side.source; image.alt = side.title; } else image.removeAttribute('src');
  }
  element.querySelector('[data-pane="flicker"]').title = HOLD;
  enter(mode);
  place();
  const first = await picture(next.left.source);
  part('stage').style.setProperty('--pl-aspect', first.naturalWidth / first.naturalHeight);
}

show();
watch('value', show);
