// Lays the map of defects over an image, as clear and from as sure on as the sliders say. Nothing is asked of the server.
const part = name => element.querySelector(`[data-part="${name}"]`);
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129],
  [92, 200, 99], [170, 220, 50], [253, 231, 37]];
let shown = null;

function colour(value) {
  const place = value * (VIRIDIS.length - 1), below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[below].map((from, i) => from + (VIRIDIS[below + 1][i] - from) * (place - below));
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

function pixels(image, width, height, smooth) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  pen.imageSmoothingEnabled = smooth;
  pen.drawImage(image, 0, 0, width, height);
  return pen.getImageData(0, 0, width, height);
}

function values(image, width, height, smooth) {
  if (!image) return null;
  const found = pixels(image, width, height, smooth).data, kept = new Uint8Array(width * height);
  for (let i = 0; i < kept.length; i++) kept[i] = found[4 * i];
  return kept;
}

// A line around what was marked by hand: white, with a dark edge, so that it is seen on any ground.
function outline(data, width, height) {
  const {marked} = shown, reach = Math.max(1, Math.round(Math.max(width, height) / 320));
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && marked[y * width + x] > 127;
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    if (!inside(x, y)) continue;
    if (inside(x - reach, y) && inside(x + reach, y) && inside(x, y - reach) && inside(x, y + reach)) continue;
    data.set([255, 255, 255, 255], 4 * (y * width + x));
  }
}

function draw() {
  const canvas = part('overlay');
  if (!canvas || !shown) return;
  const {width, height, sure} = shown, clear = Number(part('opacity').value), least = Number(part('threshold').value);
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext('2d'), layer = pen.createImageData(width, height);
  let above = 0;
  if (sure) for (let i = 0; i < sure.length; i++) {
    const value = sure[i] / 255;
    if (value < least / 100) continue;
    above++;
    layer.data.set([...colour(value), 2.55 * clear * Math.min(1, 2 * value)], 4 * i);  // sound places stay clear
  }
  if (shown.marked && part('marked').checked) outline(layer.data, width, height);
  pen.putImageData(layer, 0, 0);
  part('opacity-said').textContent = `${clear}%`;
  part('threshold-said').textContent = `${(least / 100).toFixed(2)}`;
  part('share').textContent = sure ? `${(100 * above / sure.length).toFixed(1)}% of the image is coloured.` : '';
}

async function show() {
  const given = props.value ? JSON.parse(props.value) : null;
  part('all').hidden = !given;
  if (!given) { shown = null; return; }
  const [image, map, mask] = await Promise.all([given.image, given.map, given.mask].map(picture));
  if (!props.value || JSON.parse(props.value).id !== given.id) return;  // another one was chosen meanwhile
  const width = image ? image.naturalWidth : 256, height = image ? image.naturalHeight : 256;
  const scale = Math.max(1, Math.ceil(384 / Math.max(width, height)));
  shown = {width: width * scale, height: height * scale};
  shown.sure = values(map, shown.width, shown.height, true);
  shown.marked = values(mask, shown.width, shown.height, false);
  part('image').src = given.image;
  part('image').alt = given.alt;
  part('image').style.width = part('overlay').style.width = '100%';
  part('stage').style.aspectRatio = `${width} / ${height}`;
  part('said').textContent = given.said;
  part('why').textContent = given.why;
  part('marked-row').hidden = !mask;
  draw();
  element.dataset.shown = given.id;
}

element.addEventListener('input', event => { if (event.target.closest('[data-part]')) draw(); });
show();
watch('value', show);
