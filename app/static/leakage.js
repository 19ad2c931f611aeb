// Lays where words look over the picture: at one step or over all, before and after the repair, on one scale or each map
// on its own. Nothing is asked of the server.
const part = name => element.querySelector(`[data-part="${name}"]`);
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129],
  [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const SIDE = 320;
let shown = null, cells = [];

function colour(value) {
  const place = value * (VIRIDIS.length - 1), below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[below].map((from, i) => from + (VIRIDIS[below + 1][i] - from) * (place - below));
}

function numbers(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return new Uint16Array(bytes.buffer);
}

function picture(address) {
  return new Promise(done => {
    if (!address) return done(null);
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => done(null);
    image.src = address;
  });
}

function canvas(width, height) {
  return Object.assign(document.createElement('canvas'), {width, height});
}

function grey(image) {
  const pen = canvas(SIDE, SIDE).getContext('2d', {willReadFrequently: true});
  pen.imageSmoothingEnabled = false;
  pen.drawImage(image, 0, 0, SIDE, SIDE);
  return pen.getImageData(0, 0, SIDE, SIDE).data;
}

// Values 0 to 1 of a map [side, side] at the size of the picture.
function enlarged(map, side, most) {
  const small = canvas(side, side), pen = small.getContext('2d'), layer = pen.createImageData(side, side);
  for (let i = 0; i < map.length; i++) layer.data.set([255 * Math.min(1, map[i] / most), 0, 0, 255], 4 * i);
  pen.putImageData(layer, 0, 0);
  const large = canvas(SIDE, SIDE).getContext('2d', {willReadFrequently: true});
  large.drawImage(small, 0, 0, SIDE, SIDE);
  return large.getImageData(0, 0, SIDE, SIDE).data;
}

function outline(layer, mask) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < SIDE && y < SIDE && mask[4 * (y * SIDE + x)] > 127;
  for (let y = 0; y < SIDE; y++) for (let x = 0; x < SIDE; x++) {
    if (!inside(x, y) || (inside(x - 2, y) && inside(x + 2, y) && inside(x, y - 2) && inside(x, y + 2))) continue;
    layer.data.set([255, 255, 255, 255], 4 * (y * SIDE + x));
  }
}

function draw() {
  if (!shown) return;
  const all = part('all-steps').checked, step = all ? 0 : Number(part('step').value);
  const clear = Number(part('opacity').value) / 100, own = part('scale').value === 'own', size = shown.side ** 2;
  for (const cell of cells) {
    const map = cell.maps.subarray(step * size, (step + 1) * size);
    const most = own ? Math.max(1, ...map) : shown.most[all ? 0 : 1];
    const values = enlarged(map, shown.side, most), pen = cell.canvas.getContext('2d');
    const layer = pen.createImageData(SIDE, SIDE);
    for (let i = 0; i < SIDE * SIDE; i++) {
      const value = values[4 * i] / 255;
      layer.data.set([...colour(value), 255 * clear * Math.min(1, 2 * value)], 4 * i);
    }
    if (cell.mask && part('outline').checked) outline(layer, cell.mask);
    pen.putImageData(layer, 0, 0);
    cell.said.textContent = cell.sentences[step] || '';
  }
  for (const pair of shown.pairs) pair.said.textContent = pair.sentences[step] || '';
  part('step-said').textContent = all ? `all ${shown.steps}` : `${step} of ${shown.steps}`;
  part('opacity-said').textContent = `${Math.round(100 * clear)}%`;
  element.dataset.step = step;
}

function cell(image, title, maps, mask, sentences) {
  const figure = document.createElement('figure'), head = document.createElement('figcaption');
  const stage = document.createElement('div'), said = document.createElement('p');
  stage.className = 'pl-look';
  const ground = Object.assign(new Image(), {src: image, alt: ''});
  const over = canvas(SIDE, SIDE);
  over.setAttribute('role', 'img');
  over.setAttribute('aria-label', title);
  head.textContent = title;
  stage.append(ground, over);
  figure.append(head, stage, said);
  return {figure, canvas: over, maps: numbers(maps), mask, said, sentences};
}

async function show() {
  const text = props.value, given = text ? JSON.parse(text) : null;
  part('all').hidden = !given;
  if (!given) { shown = null; cells = []; return; }
  const masks = await Promise.all(given.words.map(word => picture(word.mask)));
  if (props.value !== text) return;  // another one was chosen meanwhile
  const place = part('cells'), lines = part('pairs');
  place.replaceChildren();
  lines.replaceChildren();
  cells = [];
  given.words.forEach((word, number) => {
    const mask = masks[number] ? grey(masks[number]) : null, row = document.createElement('div');
    row.className = 'pl-look-row';
    for (const side of word.sides) {
      const made = cell(given.image, side.title, side.maps, mask, side.sentences);
      cells.push(made);
      row.append(made.figure);
    }
    place.append(row);
  });
  for (const pair of given.pairs) {
    pair.said = document.createElement('p');
    lines.append(pair.said);
  }
  const slider = part('step');
  slider.max = given.steps;
  slider.value = Math.min(Number(slider.value) || 1, given.steps);
  shown = given;
  draw();
  element.dataset.shown = given.id;
}

element.addEventListener('input', event => {
  const name = event.target.dataset ? event.target.dataset.part : '';
  if (!name) return;
  if (name === 'step') part('all-steps').checked = false;
  draw();
});
show();
watch('value', show);
