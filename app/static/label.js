// The reading screen, part 4: the queue, the verdicts and the keys. The page keeps no truth of its own: what it shows
// comes from the server, and the next image shows when the verdict on this one is kept.
const root = part('root');
const WORDS = {unsure: 'unsure', not_gradable: 'not gradable', skip: 'skipped', flag: 'flagged', undo: 'taken back'};
const LETTERS = 'abcdehiklmnopqrtwx';  // without those that are commands
const AHEAD = 5, REFRESH = 10, PAST = 12;
let session = null, opening = 0, ticket = 0, view = 'one', ready = false, busy = false, since = 0, looked = 0, telling = null;
let pictures = new Map();
const sending = new Set();

const screen = makeScreen();
const grid = makeGrid({
  tasks: () => (session ? session.tasks : []),
  dataset: () => session.dataset,
  said: task => (task.said ? words(task.said) : ''),
  address: task => `${session.thumbnails}/${task.thumbnail}`,
  chosen: tasks => { if (several()) onScreen(tasks[0]); },
  open: task => { session.at = session.tasks.indexOf(task); setView('one'); },
});

// Which image is in front of the reader, for other parts of the page: the one that is shown large, or the first selected.
function onScreen(task) {
  if (task) root.dataset.shown = task.sample;
  else delete root.dataset.shown;
}

// --- words ------------------------------------------------------------------------

const className = id => session.names.get(id) || 'a class that is gone';
const words = said => (said.verdict === 'label' ? className(said.class_id) : WORDS[said.verdict]);
const clock = () => new Date().toLocaleTimeString([], {hour: '2-digit', minute: '2-digit', hour12: false});
const say = text => { part('said').textContent = text; };

function node(name, style, ...content) {
  const made = document.createElement(name);
  if (style) made.className = style;
  made.append(...content);
  return made;
}

function keyOf(place) {
  return place < 9 ? String(place + 1) : LETTERS[place - 9] || '';
}

function tell(event) {
  if (event === 'done') return trigger('done');
  telling ||= setTimeout(() => { telling = null; trigger('kept'); }, 600);
}

// --- opening ----------------------------------------------------------------------

async function open() {
  const request = props.value ? JSON.parse(props.value) : null, turn = ++opening;
  session = null;
  ready = busy = false;
  refused = '';
  calm();
  root.hidden = !request;
  onScreen(null);
  if (!request) return;
  part('title').textContent = 'One moment …';
  let answer = await insist('look', request, () => turn === opening);
  if (turn !== opening || !answer) return;
  if (answer.problem) return refuse(answer.problem);
  session = {dataset: request.dataset, annotator: request.annotator, request, list: Boolean(request.samples), changes: 0};
  take(answer);
  if (await sendLeftovers()) {
    answer = await insist('look', request, () => turn === opening);
    if (turn !== opening || !answer || answer.problem) return;
    take(answer);
  }
  pictures = new Map();
  session.had = session.tasks.length;
  session.at = Math.max(0, session.list ? 0 : session.tasks.findIndex(waits));
  drawClasses();
  part('title').textContent = answer.title || 'Your queue';
  part('mode').textContent = answer.blind ? 'Blind: without suggestions' : 'Assisted: with suggestions';
  part('before').textContent = '';
  drawPast();
  setView(view);
}

// A fresh answer becomes the session; tasks that are known already keep their identity and their place.
function take(answer) {
  const key = task => `${task.sample}/${task.occasion}/${task.round}`;
  const known = new Map((session.tasks || []).map(task => [key(task), task])), now = session.tasks && session.tasks[session.at];
  const fresh = answer.tasks.map(task => {
    const said = task.occasion === 'repeat' ? null : answer.standing[task.sample] || null;
    const state = {said, seen: answer.mark, others: answer.others[task.sample] || ''};
    return Object.assign(known.get(key(task)) || {}, task, state);
  });
  const kept = (session.tasks || []).filter(task => !fresh.includes(task) && !waits(task) || task === now);
  Object.assign(session, {
    tasks: session.list ? fresh : [...kept, ...fresh.filter(task => task !== now)],
    blind: answer.blind, thumbnails: answer.thumbnails, past: answer.past, undoable: answer.undoable, redoable: answer.redoable,
    classes: answer.classes, names: new Map(answer.classes.map(each => [each.id, each.name])),
    home: `${answer.workspace}/${session.dataset}/${session.annotator}`,
  });
  if (now) session.at = Math.max(0, session.tasks.indexOf(now));
}

async function sendLeftovers() {
  const mine = Object.entries(unsent()).filter(([name, each]) => each.home === session.home && !sending.has(name));
  for (const [, each] of mine) {
    const entries = each.content.entries;
    await keep(entries, entries.map(entry => ({sample: entry.sample, occasion: entry.occasion})));
  }
  return mine.length > 0;
}

// --- verdicts ---------------------------------------------------------------------

const waits = task => !task.said || task.said.verdict === 'skip';
const current = () => session && (session.again || session.tasks[session.at]);
const several = () => view === 'many' && !(session && session.again);

async function decide(verdict, classId = null, comment = '') {
  if (busy || !session) return;
  const tasks = several() ? grid.chosen() : ready && current() ? [current()] : [];
  if (!tasks.length) return several() ? say('Select images first, then press a key for all of them.') : undefined;
  const press = randomName(24), spent = seconds() / tasks.length, here = session;
  const entries = tasks.map((task, place) => ({
    sample: task.sample, verdict, class_id: classId, comment, seen: task.seen || null, round_id: task.round,
    event: tasks.length > 1 ? `${press}-${place}` : press + randomName(8), occasion: task.occasion,
    seconds: Math.round(1000 * spent) / 1000, ...aidsOf(task),
  }));
  busy = true;
  root.dataset.busy = '';
  const kept = await keep(entries, tasks);
  busy = false;
  delete root.dataset.busy;
  if (kept && session === here) afterVerdict(tasks, verdict);
}

// What the reader saw beside the image. The grid shows no suggestions.
function aidsOf(task) {
  const aids = {blind: session.blind, view: several() ? 'grid' : 'one'};
  if (several() || !task.top) return {aids};
  return {aids: {...aids, suggestions: task.top}, model: task.model || ''};
}

// Have verdicts kept, and ask about those that another tab knows better; true when all is settled.
async function keep(entries, tasks) {
  const here = session, name = entries[0].event;
  sending.add(name);
  const answer = await deliver(here.home, {dataset: here.dataset, annotator: here.annotator, entries});
  sending.delete(name);
  if (!answer || session !== here) return false;
  if (answer.problem) {
    refuse(`This was not kept. ${answer.problem}`);
    return false;
  }
  refused = '';
  calm();
  const conflicts = [];
  let told = null;
  answer.receipts.forEach((receipt, place) => {
    const entry = entries[place], task = tasks[place];
    if (receipt.conflict) conflicts.push({entry, task, conflict: receipt.conflict});
    else told = settle(task, {...entry, id: receipt.id, time: clock()}, receipt);
  });
  tell('kept');
  if (told) drawBefore(told, entries.length - conflicts.length);
  if (!conflicts.length) return true;
  if (await resolve(conflicts)) return keep(conflicts.map(each => ({...each.entry, seen: each.conflict.id})), conflicts.map(each => each.task));
  for (const {task, conflict} of conflicts) mirror(task, conflict);
  return true;
}

function settle(task, said, receipt) {
  mirror(task, said);
  session.changes++;
  const listed = {...said, thumbnail: task.thumbnail};
  if (task.thumbnail) session.past = [listed, ...session.past.filter(each => each.sample !== said.sample)].slice(0, PAST);
  session.undoable++;
  session.redoable = 0;
  drawPast();
  return {said, receipt};
}

// What is said of an image now, wherever it stands in the queue.
function mirror(task, said) {
  const others = session.tasks.filter(each => each.sample === task.sample && each.occasion !== 'repeat' && task.occasion !== 'repeat');
  for (const each of new Set([task, ...others])) Object.assign(each, {said, seen: said.id});
}

function afterVerdict(tasks, verdict) {
  session.kept = (session.kept || 0) + tasks.length;
  if (session.again) return leave();
  if (verdict === 'skip' && !session.list) {  // it comes again when all others are decided
    session.tasks = [...session.tasks.filter(task => !tasks.includes(task)), ...tasks];
    if (!several()) session.at = within(session.at, 0, session.tasks.length - 1) - 1;
  }
  if (several()) {
    grid[verdict === 'skip' ? 'draw' : 'mark']();
    drawHead();
    looked = performance.now();
    if (!session.list && !session.tasks.some(waits)) finish();
    return;
  }
  part('stage').scrollIntoView({block: 'nearest'});
  forward();
  if (!session.list && session.kept % REFRESH === 0) refresh();
}

// On to the next image: the next one of a list, the next undecided one of the queue.
function forward() {
  const {tasks, at, list} = session;
  const places = [...tasks.keys()], order = [...places.slice(at + 1), ...places.slice(0, at + 1)];
  const next = list ? (at + 1 < tasks.length ? at + 1 : -1) : order.find(place => waits(tasks[place])) ?? -1;
  if (next < 0) return finish();
  session.at = next;
  show();
}

async function refresh() {
  const here = session, before = here.changes, answer = await insist('look', here.request, () => session === here);
  // An answer from before a verdict was kept would bring its image back.
  if (!answer || answer.problem || session !== here || busy || here.changes !== before) return;
  take(answer);
  drawPast();
  if (several()) grid.draw();
  drawHead();
  preload();
}

// Nothing seems to be left: ask whether there is more before saying so.
async function finish() {
  const here = session;
  ready = false;
  if (!session.list) {
    await refresh();
    if (session !== here) return;
    if (session.tasks.some(waits)) {
      session.at = session.tasks.findIndex(waits);
      return several() ? grid.draw() : show();
    }
  }
  session.over = true;
  drawView();
  say(part('empty-said').textContent);
  tell('done');
}

async function turnBack(what) {
  if (busy || !session) return;
  const here = session;
  busy = true;
  const answer = await insist('turn', {dataset: here.dataset, annotator: here.annotator, what, event: randomName(24)}, () => session === here);
  busy = false;
  if (!answer || session !== here) return;
  if (answer.problem) return refuse(answer.problem);
  session.changes++;
  Object.assign(session, {past: answer.past, undoable: answer.undoable, redoable: answer.redoable, again: null});
  drawPast();
  if (!answer.verdict) return say(what === 'undo' ? 'There is nothing to take back.' : 'There is nothing to put back.');
  const changed = answer.tasks.map(task => placed(task, answer));
  const put = `${what === 'undo' ? 'Taken back' : 'Put back'}: ${words(answer.verdict)}${changed.length > 1 ? `, ${changed.length} images` : ''}.`;
  part('before').textContent = put;
  say(put);
  tell('kept');
  if (!changed.length) return;
  session.over = false;
  if (several()) { drawView(); grid.select(changed); return; }
  session.at = session.tasks.indexOf(changed[0]);
  if (what === 'redo') forward();
  else show();
}

// The task of an image that was taken or put back: the one in the queue, or a new one here.
function placed(task, answer) {
  const same = each => each.sample === task.sample && (each.occasion === 'repeat') === (task.occasion === 'repeat');
  let found = session.tasks.find(same);
  if (!found) {
    found = task;
    session.tasks.splice(session.over ? session.tasks.length : session.at, 0, found);
  }
  const said = task.occasion === 'repeat' ? null : answer.standing[task.sample] || null;
  return Object.assign(found, {said, seen: Math.max(found.seen || 0, answer.mark)});
}

// --- looking again at an image, without leaving the queue ---------------------------

function lookAgain(row) {
  session.again = {sample: row.sample, occasion: 'review', round: null, thumbnail: row.thumbnail, said: row, seen: row.id};
  show();
}

function leave() {
  session.again = null;
  if (view === 'one') return show();
  drawView();
  drawShares([], null);
  grid.mark();
}

// --- dialogs ----------------------------------------------------------------------

function openFlag() {
  const count = several() ? grid.chosen().length : 1;
  if (busy || !count || (!several() && !ready)) return count ? undefined : say('Select images first.');
  part('flag-title').textContent = count > 1 ? `Flag these ${count} images` : 'Flag this image';
  part('comment').value = '';
  part('flag-box').showModal();
  part('comment').focus();
}

function keepFlag() {
  const comment = part('comment').value.trim();
  if (!comment) return part('comment').focus();
  part('flag-box').close();
  decide('flag', null, comment);
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

// --- showing ----------------------------------------------------------------------

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
  ready = false;
  session.over = false;
  drawView();
  if (!task) return finish();
  const slow = setTimeout(() => { if (turn === ticket) { screen.show(null); missing('Loading …'); } }, 150);
  const picture = await pictureOf(task);
  clearTimeout(slow);
  if (turn !== ticket || session !== here) return;
  if (picture.passing) pictures.delete(task.sample);
  missing(picture.missing || '');
  screen.show(picture.missing === undefined ? picture : null);
  drawTask(task);
  ready = true;
  onScreen(task);
  since = looked = performance.now();
  preload();
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
    onScreen(null);
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
  drawShares(task.top || [], task.said);
}

// The suggestions, and the class that was given already; nothing is chosen beforehand.
function drawShares(top, said) {
  const shares = new Map(top);
  part('suggested').hidden = !shares.size;
  part('suggested').textContent = `The model suggests: ${top.map(([id, share]) => `${className(id)} ${share.toFixed(2)}`).join(' · ')}`;
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
  const why = session.blind && receipt.why && count === 1 ? ` It was picked because: ${receipt.why}` : '';
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
    button.onclick = () => { if (!busy) lookAgain(row); };
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

// --- commands, by key and by mouse ----------------------------------------------------

function browse(by) {
  if (busy || !session || !session.tasks.length) return;
  if (session.again) return leave();
  const next = session.over ? session.tasks.length - 1 : session.at + by;
  if (next < 0 || next >= session.tasks.length) return say(by < 0 ? 'This is the first image.' : 'This is the last image.');
  session.at = next;
  show();
}

const COMMANDS = {
  unsure: () => decide('unsure'), not_gradable: () => decide('not_gradable'), skip: () => decide('skip'), flag: openFlag,
  undo: () => turnBack('undo'), redo: () => turnBack('redo'), back: () => browse(-1), next: () => browse(1),
  one: toOne, many: () => setView('many'), leave,
  'zoom-in': screen.zoomIn, 'zoom-out': screen.zoomOut, fit: screen.fit, 'own-size': screen.ownSize, reset: screen.reset,
  all: grid.all, none: grid.none, 'page-back': () => grid.turn(-1), 'page-next': () => grid.turn(1),
  retry: () => hurry && hurry(), 'flag-keep': keepFlag, 'flag-leave': () => part('flag-box').close(),
  'conflict-keep': () => part('conflict').close('keep'), 'conflict-take': () => part('conflict').close('take'),
};
const KEYS = {
  u: 'unsure', g: 'not_gradable', s: 'skip', f: 'flag', z: 'undo', y: 'redo', ArrowLeft: 'back', ArrowRight: 'next',
  '+': 'zoom-in', '=': 'zoom-in', '-': 'zoom-out',
};
const REPEATED = new Set(['back', 'next', 'zoom-in', 'zoom-out']);

function classAt(key) {
  const place = /^[1-9]$/.test(key) ? Number(key) - 1 : LETTERS.includes(key) && key.length === 1 ? 9 + LETTERS.indexOf(key) : -1;
  return session.classes[place];
}

// What a key does just now; nothing for keys that are not ours.
function commandOf(event) {
  const digit = !event.shiftKey && /^(Digit|Numpad)([0-9])$/.exec(event.code || '');
  const key = digit ? digit[2] : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === 'z') return () => turnBack(event.shiftKey ? 'redo' : 'undo');
    return key === 'y' ? COMMANDS.redo : key === 'a' && several() ? grid.all : null;
  }
  if (several() && !session.over) {
    const inGrid = grid.command(event);
    if (inGrid) return inGrid;
  }
  if (event.shiftKey && key === 'z') return COMMANDS.redo;
  if (key === 'Escape') return session.again ? leave : null;
  if (key === 'v') return () => (view === 'one' ? setView('many') : toOne());
  if (key === '0') return screen.toggleSize;
  if (key === '[' || key === ']') return () => screen.brighter(key === ']' ? 10 : -10);
  if (key === '/' && !part('filter').hidden) return () => part('filter').focus();
  if (key in KEYS) return event.repeat && !REPEATED.has(KEYS[key]) ? () => {} : COMMANDS[KEYS[key]];
  const chosen = classAt(key);
  return chosen ? () => { if (!event.repeat) decide('label', chosen.id); } : null;
}

// Whether the key belongs to what has the focus: text fields take all, sliders and buttons what moves and presses them.
function taken(target, key) {
  if (!(target instanceof Element)) return false;
  const field = target.closest('input, textarea, select, [contenteditable="true"], [role="combobox"], [role="textbox"]');
  const moving = key.startsWith('Arrow') || ['Home', 'End', 'PageUp', 'PageDown'].includes(key), pressing = key === ' ' || key === 'Enter';
  if (field) return !['range', 'checkbox', 'radio'].includes(field.type) || moving || pressing;
  if (cellsHold(target)) return false;
  if (target.closest('button, a, summary, [role="tab"], [role="slider"]') && pressing) return true;
  return moving && Boolean(target.closest('[role="tab"], [role="slider"], .pl-gallery, [role="listbox"]'));
}
const cellsHold = target => part('cells').contains(target);

function onKey(event) {
  if (!element.isConnected) return document.removeEventListener('keydown', onKey, true);
  if (!session || root.hidden || event.altKey || !element.checkVisibility() || document.querySelector('dialog[open]')) return;
  if (taken(event.target, event.key)) return;
  const command = commandOf(event);
  if (!command) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  command();
}
document.addEventListener('keydown', onKey, true);

element.addEventListener('click', event => {
  const button = event.target.closest('button[data-command], button[data-class]');
  if (!button || button.disabled) return;
  if (event.detail) button.blur();  // or the next press of Space would press it again
  if (!session && button.dataset.command !== 'retry') return;
  if (button.dataset.class) decide('label', Number(button.dataset.class));
  else COMMANDS[button.dataset.command]();
});
part('comment').addEventListener('keydown', event => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  keepFlag();
});
part('filter').addEventListener('input', filterClasses);
part('filter').addEventListener('keydown', event => {
  if (event.key !== 'Enter' && event.key !== 'Escape') return;
  const found = event.key === 'Enter' && filterClasses();
  part('filter').value = '';
  filterClasses();
  part('filter').blur();
  if (found) decide('label', Number(found.dataset.class));
});

new ResizeObserver(() => {
  root.classList.toggle('narrow', root.clientWidth < 860);
  root.classList.toggle('narrowest', root.clientWidth < 600);
}).observe(root);
open();
watch('value', open);
