// The reading screen, part 6: what stands where. All text is written as text.

function pictureOf(task) {
  if (!pictures.has(task.sample)) pictures.set(task.sample, fetchPicture(session.dataset, task.sample));
  return pictures.get(task.sample);
}

async function fetchPicture(dataset, sample) {
  const info = await insist('picture', {dataset, sample}, () => session && session.dataset === dataset);
  if (!info || info.missing || info.problem) return {missing: (info && (info.missing || info.problem)) || ''};
  try { return await loadPicture(info); } catch { return {missing: 'This image cannot be shown: its picture did not arrive. Look at another one, then come back.', passing: true}; }
}

// The next images are fetched, decoded and painted while the reader looks at this one; others are forgotten.
function preload() {
  if (!session || several()) return;
  const {tasks, at, list} = session;
  const next = tasks.slice(at + 1).filter(task => list || waits(task)).slice(0, AHEAD);
  const wanted = [current(), ...next, tasks[at + 1], tasks[at - 1], tasks[at - 2]].filter(Boolean);
  const samples = new Set(wanted.map(task => task.sample));
  for (const sample of pictures.keys()) if (!samples.has(sample)) pictures.delete(sample);
  for (const task of wanted) pictureOf(task);
}

async function show() {
  const turn = ++ticket, task = current(), here = session;
  arriving = true;
  session.over = false;
  drawView();
  if (!task) return finish();
  const slow = setTimeout(() => { if (turn === ticket) blank('Loading …'); }, 150);
  const picture = await pictureOf(task);
  clearTimeout(slow);
  if (turn !== ticket || session !== here) return;
  arriving = false;
  if (picture.passing) pictures.delete(task.sample);
  missing(picture.missing || '');
  screen.show(picture.missing === undefined ? picture : null);
  drawTask(task);
  large = task;
  onScreen(task);
  since = looked = performance.now();
  preload();
}

// No image is on screen, so no key means one.
function blank(text) {
  large = null;
  onScreen(null);
  screen.show(null);
  missing(text);
}

function missing(text) {
  part('problem').hidden = !text;
  part('problem').textContent = text;
}

// Seconds that the reader has looked, without those in which the page was hidden.
const seconds = () => Math.max(0, performance.now() - looked) / 1000;
let away = 0;
function watchHiding() {
  if (!element.isConnected) return document.removeEventListener('visibilitychange', watchHiding);
  if (document.hidden) away = performance.now();
  else if (away) looked += performance.now() - Math.max(away, since);
}
document.addEventListener('visibilitychange', watchHiding);

function setView(next) {
  view = next;
  if (!session) return;
  ticket++;
  arriving = false;
  blank('');
  session.again = null;
  session.over = false;
  looked = since = performance.now();
  if (!session.tasks.length) return finish();
  if (view === 'one' && !session.list && session.tasks[session.at] && !waits(session.tasks[session.at]) && !session.tasks.some(waits)) return finish();
  if (view === 'one') return show();
  drawView();
  drawShares([], null);
  grid.select(session.tasks.slice(session.at, session.at + 1));
  grid.none();
  grid.focus();
}

// From the grid to the image that was left, or if that is decided to the next one that waits.
function toOne() {
  const {tasks, at, list} = session, places = [...tasks.keys()];
  const order = [...places.slice(at), ...places.slice(0, at)];
  if (!list) session.at = order.find(place => waits(tasks[place])) ?? at;
  setView('one');
}

function drawView() {
  const over = session.over && !session.again, one = !several();
  part('one').hidden = over || !one;
  part('many').hidden = over || one;
  part('empty').hidden = !over;
  if (over) {
    blank('');
    part('empty-said').textContent = emptySentence();
  }
  part('again').hidden = !session.again;
  if (session.again) part('again-said').textContent = `You are looking again at an image that you called “${words(session.again.said)}” at ${session.again.said.time}. A key corrects it.`;
  for (const name of ['one', 'many']) element.querySelector(`[data-command="${name}"]`).setAttribute('aria-pressed', (name === 'one') === one);
  drawHead();
}

function emptySentence() {
  if (session.list) return `You have looked through ${session.tasks.length === 1 ? 'the one image' : `all ${session.tasks.length} images`} of this list.`;
  if (session.had) return 'This batch is done: every image has your verdict. Ask for the next batch, or look at what the labels are worth so far.';
  return 'No image waits for you. Ask for the next batch: it picks the images whose labels help most.';
}

function drawHead() {
  const {tasks, at, list} = session, left = tasks.filter(waits).length;
  const place = several() || session.over || session.again ? '' : `Image ${at + 1} of ${tasks.length} · `;
  part('place').textContent = list ? place.replace(' · ', '') : `${place}${left} to decide`;
}

function drawTask(task) {
  drawHead();
  part('why').replaceChildren();
  if (task.why) part('why').append(node('strong', '', 'Why this image: '), task.why);
  if (task.name) part('why').append(node('span', 'pl-quiet', ` ${task.name}`));
  const said = [task.said ? `You called it “${words(task.said)}” at ${task.said.time}.` : '', task.said && task.said.comment ? `“${task.said.comment}”` : '', task.others || ''];
  part('state').textContent = said.filter(Boolean).join(' ');
  drawShares(task.top || [], task.said, task.offered || []);
}

// The suggestions, and the class that was given already; nothing is chosen beforehand.
function drawShares(top, said, offered = []) {
  const shares = new Map([...offered, ...top].filter(([, share]) => share !== null).map(([id, share]) => [id, share]));
  const listed = pairs => pairs.map(([id, share]) => `${className(id)}${share === null ? '' : ` ${share.toFixed(2)}`}`).join(' · ');
  const told = offered.map(([id, share, source]) => `Suggested by ${source}: ${listed([[id, share]])}.`);
  part('suggested').hidden = !top.length && !told.length;
  part('suggested').textContent = [...told, top.length ? `The model suggests: ${listed(top)}` : ''].filter(Boolean).join(' ');
  for (const button of part('classes').children) {
    const share = shares.get(Number(button.dataset.class));
    button.querySelector('.pl-share').textContent = share === undefined ? '' : share.toFixed(2);
    button.setAttribute('aria-pressed', Boolean(said && said.class_id === Number(button.dataset.class)));
  }
}

function drawClasses() {
  part('filter').hidden = session.classes.length <= 12;
  part('filter').value = '';
  part('classes').replaceChildren(...session.classes.map((each, place) => {
    const key = keyOf(place), button = node('button', 'pl-class', node('kbd', key ? '' : 'none', key.toUpperCase()), node('span', '', each.name), node('span', 'pl-share'));
    button.type = 'button';
    button.dataset.class = each.id;
    if (key) button.setAttribute('aria-keyshortcuts', key);
    return button;
  }));
}

function drawBefore({said, receipt}, count) {
  const kept = `${count > 1 ? `${count} images` : 'The image before'}: ${words(said)}.`;
  const why = session.blind && receipt.why && count === 1 ? ` It was picked because: ${receipt.why}.` : '';
  const others = receipt.others && count === 1 ? ` ${receipt.others}` : '';
  part('before').replaceChildren(node('strong', '', kept), why, others);
  say(`Kept: ${words(said)}${count > 1 ? `, ${count} images` : ''}.${others}`);
}

function drawPast() {
  part('past').replaceChildren(...session.past.map(row => {
    const image = node('img');
    image.src = `${session.thumbnails}/${row.thumbnail}`;
    image.alt = '';
    image.loading = 'lazy';
    const button = node('button', '', image, node('span', '', words(row)), node('time', '', row.time));
    button.type = 'button';
    button.title = 'Look again at this image';
    button.onclick = () => { if (!busy()) lookAgain(row); };
    return node('li', '', button);
  }));
  for (const [name, count] of [['undo', session.undoable], ['redo', session.redoable]]) element.querySelector(`[data-command="${name}"]`).disabled = !count;
}

function filterClasses() {
  const wanted = part('filter').value.trim().toLowerCase(), found = [];
  for (const button of part('classes').children) {
    button.hidden = !button.textContent.toLowerCase().includes(wanted);
    if (!button.hidden) found.push(button);
  }
  return wanted ? found[0] : null;
}

// --- dialogs ----------------------------------------------------------------------

let flagged = [];  // the images that the dialog is about, whatever stands behind it later
function openFlag() {
  flagged = inHand();
  const count = flagged.length;
  if (busy()) return tellStep('One moment: your last verdict is being saved. Then press F again.');
  if (!count) return several() ? say('Select images first.') : undefined;
  part('flag-title').textContent = count > 1 ? `Flag these ${count} images` : 'Flag this image';
  part('comment').value = '';
  part('flag-box').showModal();
  part('comment').focus();
}

function keepFlag() {
  const comment = part('comment').value.trim();
  if (!comment) return part('comment').focus();
  part('flag-box').close();
  decide('flag', null, comment, flagged);
}

function resolve(conflicts) {
  const [{entry, conflict}] = conflicts, many = conflicts.length > 1, box = part('conflict');
  const one = `In another tab you called this image “${words(conflict)}” at ${conflict.time}.`;
  part('conflict-said').textContent = many ? `In another tab you decided ${conflicts.length} of these images differently, the first as “${words(conflict)}” at ${conflict.time}.` : one;
  part('stay').textContent = many ? 'Keep what was said there' : `Keep “${words(conflict)}”`;
  part('take').textContent = `Take “${words(entry)}”`;
  box.returnValue = '';
  box.showModal();
  part('stay').focus();
  return new Promise(done => box.addEventListener('close', () => done(box.returnValue === 'take'), {once: true}));
}
