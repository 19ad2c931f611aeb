// Draws a Plotly figure in the page's own colours, again when light changes to dark. Tells what was pressed and what was
// selected, shows the picture behind a mark under the pointer, and saves the figure as PNG, SVG or CSV.
const part = name => element.querySelector('.pl-' + name);
const colour = name => getComputedStyle(document.body).getPropertyValue(name).trim();
const SELECTING = ['lasso2d', 'select2d', 'zoom2d', 'pan2d', 'resetScale2d'];
let tools = {};

function painted(figure, ink, quiet, line, paper) {
  const copy = structuredClone(figure);
  const look = copy.layout.template.layout;
  look.font.color = ink;
  look.title.font.color = ink;
  look.hoverlabel.bgcolor = paper;
  look.hoverlabel.bordercolor = line;
  look.hoverlabel.font.color = ink;
  look.modebar = {bgcolor: 'rgba(0,0,0,0)', color: quiet, activecolor: ink};
  look.newselection = {line: {color: ink, width: 1.5, dash: 'dot'}};
  for (const axis of [look.xaxis, look.yaxis]) Object.assign(axis, {gridcolor: line, linecolor: line, automargin: true});
  for (const trace of copy.data) for (const bars of [trace.error_x, trace.error_y]) if (bars) bars.color = ink;
  return copy;
}

// --- saving ---

function saveImage(format) {
  const place = part('figure');
  const light = painted(JSON.parse(props.value), '#1B2226', '#6B7280', '#DFE3E6', '#FFFFFF');
  light.layout.paper_bgcolor = '#FFFFFF';
  window.Plotly.downloadImage({data: light.data, layout: light.layout}, {format, scale: format === 'png' ? 2 : 1,
    width: place.clientWidth, height: place.clientHeight, filename: tools.save ? tools.save.name : 'figure'});
}

function saveTable() {
  const cell = value => /[",\n\r]/.test(value) ? '"' + value.replaceAll('"', '""') + '"' : value;
  const text = tools.save.table.map(row => row.map(value => cell(String(value ?? ''))).join(',')).join('\n') + '\n';
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/csv;charset=utf-8'}));
  link.download = tools.save.name + '.csv';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const FORMATS = [['PNG', 'As a picture', () => saveImage('png')], ['SVG', 'As a drawing for print', () => saveImage('svg')],
  ['CSV', 'The numbers, for a spreadsheet', saveTable]];

function offerToSave() {
  const row = part('save');
  row.hidden = !tools.save;
  if (row.hidden || row.childElementCount) return;
  row.append('Save');
  for (const [name, title, save] of FORMATS) {
    const button = Object.assign(document.createElement('button'), {type: 'button', title, textContent: name});
    button.className = 'pl-button small quiet';
    button.addEventListener('click', save);
    row.append(button);
  }
}

function settings() {
  const save = {name: 'Save as picture', title: 'Save as picture', icon: window.Plotly.Icons.camera,
    click: () => saveImage('png')};
  return {displaylogo: false, displayModeBar: tools.select ? true : 'hover',
    modeBarButtons: tools.select ? [SELECTING] : tools.save ? [[]] : [[save]]};
}

// --- the picture behind a mark ---

function peek(event) {
  const file = tools.pictures && tools.pictures.files[event.points[0].customdata];
  const frame = part('peek');
  frame.hidden = !file;
  if (!file) return;
  frame.firstElementChild.src = tools.pictures.base + file;
  const around = frame.parentElement.getBoundingClientRect(), mouse = event.event;
  const left = mouse.clientX - around.left, top = mouse.clientY - around.top;
  frame.style.left = Math.min(Math.max(left - 60, 0), around.width - 120) + 'px';
  frame.style.top = (top + 148 > around.height ? top - 144 : top + 24) + 'px';
}

// --- drawing ---

function wire(place) {
  if (place.wired) return;
  place.wired = true;
  place.on('plotly_click', event => {
    const data = event.points[0].customdata;
    if (data !== undefined) trigger('press', {data});
  });
  place.on('plotly_selected', event => {
    if (event) trigger('select', {data: event.points.map(point => point.customdata)});
  });
  place.on('plotly_deselect', () => trigger('select', {data: []}));
  place.on('plotly_hover', peek);
  place.on('plotly_unhover', () => { part('peek').hidden = true; });
}

// A figure follows its place, which grows when its neighbour has nothing to show, when a fold opens, and with the window.
function fit() {
  const place = part('figure'), drawing = place.querySelector('.main-svg');
  if (place.wired && place.clientWidth && Number(drawing.getAttribute('width')) !== place.clientWidth)
    window.Plotly.Plots.resize(place);
}

function draw() {
  const place = part('figure');
  if (!place || !window.Plotly) return;
  const figure = props.value ? JSON.parse(props.value) : null;
  element.querySelector('.pl-plot').classList.toggle('nothing', !figure);
  tools = figure && figure.tools || {};
  part('peek').hidden = true;
  offerToSave();
  if (!figure) { window.Plotly.purge(place); place.wired = false; place.style.minHeight = ''; return; }
  place.style.minHeight = figure.layout.height + 'px';
  const shown = painted(figure, colour('--body-text-color'), colour('--body-text-color-subdued'),
    colour('--border-color-primary'), colour('--background-fill-primary'));
  window.Plotly.react(place, shown.data, shown.layout, settings()).then(() => { wire(place); fit(); });
}

draw();
new ResizeObserver(fit).observe(part('figure'));
watch('value', draw);
const lights = new MutationObserver(() => element.isConnected ? draw() : lights.disconnect());
lights.observe(document.body, {attributes: true, attributeFilter: ['class']});
