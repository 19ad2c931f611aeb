// The reading screen, part 1: a picture on its canvas. Zoom and pan; brightness and contrast of what is drawn; for
// greyscale a window over the values, which keep all the bits they have.
const part = name => element.querySelector(`[data-part="${name}"]`);
const within = (value, least, most) => Math.min(most, Math.max(least, value));

function pixelsOf(bitmap) {
  const canvas = document.createElement('canvas');
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  pen.drawImage(bitmap, 0, 0);
  return {canvas, pen, data: pen.getImageData(0, 0, bitmap.width, bitmap.height)};
}

// The codes of greyscale: one byte, or a high byte in red and a low one in green.
function codesOf(data, deep) {
  const codes = deep ? new Uint16Array(data.length / 4) : new Uint8Array(data.length / 4);
  for (let i = 0, j = 0; i < codes.length; i++, j += 4) codes[i] = deep ? data[j] << 8 | data[j + 1] : data[j];
  return codes;
}

// Everything that takes time is done here, ahead of showing.
async function loadPicture(info) {
  const answer = await fetch(info.url);
  if (!answer.ok) throw new Error(`${answer.status}`);
  const bitmap = await createImageBitmap(await answer.blob(), {colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
  if (info.kind === 'colour') return {info, image: bitmap};
  const {canvas, pen, data} = pixelsOf(bitmap);
  const codes = codesOf(data.data, info.kind === 'deep');
  const highest = info.low + info.step * codes.reduce((most, code) => Math.max(most, code), 0);
  const picture = {info, image: canvas, pen, data, codes, highest};
  bitmap.close();
  paint(picture, info.centre, info.span);
  return picture;
}

// Lays the window over the values of a greyscale picture.
function paint(picture, centre, span) {
  if (!picture.codes || (picture.painted && picture.painted[0] === centre && picture.painted[1] === span)) return;
  const {info, codes, data} = picture;
  const table = new Uint32Array(info.kind === 'deep' ? 65536 : 256), first = centre - span / 2;
  for (let code = 0; code < table.length; code++) {
    let grey = Math.round(255 * within((info.low + info.step * code - first) / span, 0, 1));
    if (info.inverted) grey = 255 - grey;
    table[code] = 0xff000000 | grey << 16 | grey << 8 | grey;
  }
  const words = new Uint32Array(data.data.buffer);
  for (let i = 0; i < codes.length; i++) words[i] = table[codes[i]];
  picture.pen.putImageData(data, 0, 0);
  picture.painted = [centre, span];
}

// The one place where pictures are drawn.
function makeScreen() {
  const canvas = part('canvas'), stage = part('stage'), pen = canvas.getContext('2d');
  let picture = null, scale = 1, left = 0, top = 0, fitted = true;
  const look = {brightness: 100, contrast: 100, centre: 127.5, span: 255};

  const fitScale = () => Math.min(stage.clientWidth / picture.image.width, stage.clientHeight / picture.image.height);
  function fit() {
    if (!picture) return;
    scale = fitScale();
    fitted = true;
    centreIt();
  }

  function centreIt() {
    left = (stage.clientWidth - picture.image.width * scale) / 2;
    top = (stage.clientHeight - picture.image.height * scale) / 2;
    draw();
  }

  function ownSize() {
    if (!picture) return;
    scale = 1 / window.devicePixelRatio;
    fitted = false;
    centreIt();
  }

  function zoom(by, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    if (!picture) return;
    const next = within(scale * by, Math.min(0.05, fitScale()), 40);
    left = x - (x - left) * next / scale;
    top = y - (y - top) * next / scale;
    scale = next;
    fitted = false;
    draw();
  }

  function draw() {
    const ratio = window.devicePixelRatio, width = Math.round(stage.clientWidth * ratio), height = Math.round(stage.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, width, height);
    part('zoom').textContent = '';
    if (!picture) return;
    paint(picture, look.centre, look.span);
    canvas.style.filter = look.brightness === 100 && look.contrast === 100 ? '' : `brightness(${look.brightness}%) contrast(${look.contrast}%)`;
    pen.setTransform(scale * ratio, 0, 0, scale * ratio, left * ratio, top * ratio);
    pen.imageSmoothingEnabled = scale * ratio < 3;  // enlarged further, pixels are to be seen as they are
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(picture.image, 0, 0);
    const smaller = picture.info.full_width > picture.info.width ? ` · shown with ${picture.info.width} of ${picture.info.full_width} pixels` : '';
    part('zoom').textContent = `${Math.round(100 * scale * ratio)}%${smaller}`;
  }

  function sliders() {
    const grey = Boolean(picture && picture.codes);
    for (const name of ['centre', 'span']) part(`${name}-row`).hidden = !grey;
    if (grey) {
      const {low} = picture.info, range = Math.max(picture.highest - low, 1e-6);
      Object.assign(part('centre'), {min: low, max: low + range});
      Object.assign(part('span'), {min: range / 256, max: 2 * range});
    }
    [...part('presets').children].forEach((button, place) => button.setAttribute('aria-pressed', place === chosen()));
    for (const name of Object.keys(look)) {
      part(name).value = look[name];
      const whole = Math.abs(look[name]) >= 10 || Number.isInteger(look[name]);
      part(`${name}-said`).textContent = name in {brightness: 1, contrast: 1} ? `${Math.round(look[name])}%` : look[name].toFixed(whole ? 0 : 2);
    }
  }

  function contrast(more) {
    if (picture && picture.codes) adjust({span: look.span * (more ? 0.8 : 1.25)});
    else adjust({contrast: look.contrast + (more ? 10 : -10)});
  }

  function adjust(changes) {
    Object.assign(look, changes);
    look.brightness = within(look.brightness, 20, 300);
    look.contrast = within(look.contrast, 20, 300);
    if (picture) look.span = Math.max(look.span, picture.info.step);
    sliders();
    draw();
  }

  // The windows that the file names or that are usual for its kind.
  const presets = () => (picture && picture.info.presets) || [];
  const chosen = () => presets().findIndex(each => each.centre === look.centre && each.width === look.span);
  const take = each => adjust({centre: each.centre, span: each.width});
  function offer() {
    part('presets-row').hidden = !presets().length;
    part('presets').replaceChildren(...presets().map(each => {
      const button = document.createElement('button'), window = `${+each.centre.toFixed(2)} / ${+each.width.toFixed(2)}`;
      Object.assign(button, {type: 'button', className: 'pl-button small', textContent: each.name || window, title: `Level and width ${window}`});
      button.addEventListener('click', () => take(each));
      return button;
    }));
  }
  function nextWindow() {
    if (presets().length) take(presets()[(chosen() + 1) % presets().length]);
    else if (picture) reset();
  }

  function reset() {
    const {centre, span} = picture ? picture.info : look;
    adjust({brightness: 100, contrast: 100, centre, span});
  }

  function show(next) {
    const held = part('hold').checked && picture && next && Boolean(picture.codes) === Boolean(next.codes);
    picture = next;
    canvas.hidden = !next;
    if (!next) return;
    offer();
    if (!held) Object.assign(look, {brightness: 100, contrast: 100, centre: next.info.centre, span: next.info.span});
    sliders();
    fit();
  }

  // Dragging moves the picture; with the right button or Shift it changes window or contrast.
  let drag = null;
  canvas.addEventListener('pointerdown', event => {
    if (!picture || event.button === 1) return;
    drag = {x: event.clientX, y: event.clientY, left, top, look: {...look}, adjusting: event.button === 2 || event.shiftKey};
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', event => {
    if (!drag) return;
    const x = event.clientX - drag.x, y = event.clientY - drag.y;
    if (!drag.adjusting) { left = drag.left + x; top = drag.top + y; fitted = false; draw(); }
    else if (picture.codes) {
      const unit = Math.max(picture.highest - picture.info.low, picture.info.step) / 400;
      adjust({span: drag.look.span + x * unit, centre: drag.look.centre + y * unit});
    } else adjust({contrast: drag.look.contrast + x / 2, brightness: drag.look.brightness - y / 2});
  });
  for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, () => { drag = null; });
  canvas.addEventListener('contextmenu', event => event.preventDefault());
  canvas.addEventListener('dblclick', () => { reset(); fit(); });
  canvas.addEventListener('wheel', event => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }, {passive: false});
  for (const name of Object.keys(look)) part(name).addEventListener('input', event => adjust({[name]: Number(event.target.value)}));
  new ResizeObserver(() => (fitted ? fit() : draw())).observe(stage);

  return {
    show, fit, ownSize, reset, nextWindow, contrast,
    zoomIn: () => zoom(1.25),
    zoomOut: () => zoom(0.8),
    toggleSize: () => (fitted ? ownSize() : fit()),
    brighter: by => adjust({brightness: look.brightness + by}),
  };
}
