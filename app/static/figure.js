// Draws a Plotly figure in the page's own colours, again when light changes to dark, and tells what was pressed.
const root = () => element.querySelector('.pl-figure');
const colour = name => getComputedStyle(document.body).getPropertyValue(name).trim();

function painted(figure, ink, line, paper) {
  const copy = structuredClone(figure);
  const look = copy.layout.template.layout;
  look.font.color = ink;
  look.title.font.color = ink;
  look.hoverlabel.bgcolor = paper;
  look.hoverlabel.bordercolor = line;
  look.hoverlabel.font.color = ink;
  for (const axis of [look.xaxis, look.yaxis]) Object.assign(axis, {gridcolor: line, linecolor: line, automargin: true});
  for (const trace of copy.data) for (const bars of [trace.error_x, trace.error_y]) if (bars) bars.color = ink;
  return copy;
}

function settings(figure) {
  const save = {
    name: 'Save as picture', title: 'Save as picture', icon: window.Plotly.Icons.camera,
    click: plot => {
      const light = painted(figure, '#1B2226', '#DFE3E6', '#FFFFFF');
      light.layout.paper_bgcolor = '#FFFFFF';
      window.Plotly.downloadImage({data: light.data, layout: light.layout},
        {format: 'png', scale: 2, width: plot.clientWidth, height: plot.clientHeight, filename: 'figure'});
    }
  };
  return {responsive: true, displaylogo: false, modeBarButtons: [[save]]};
}

function draw() {
  const place = root();
  if (!place || !window.Plotly) return;
  if (!props.value) { window.Plotly.purge(place); place.style.minHeight = ''; return; }
  const figure = JSON.parse(props.value);
  place.style.minHeight = figure.layout.height + 'px';
  const shown = painted(figure, colour('--body-text-color'), colour('--border-color-primary'),
    colour('--background-fill-primary'));
  window.Plotly.react(place, shown.data, shown.layout, settings(figure)).then(() => {
    if (place.wired) return;
    place.wired = true;
    place.on('plotly_click', event => trigger('press', {data: event.points[0].customdata}));
  });
}

draw();
watch('value', draw);
const lights = new MutationObserver(() => element.isConnected ? draw() : lights.disconnect());
lights.observe(document.body, {attributes: true, attributeFilter: ['class']});
