// The reading screen, part 4: the queue and the verdicts. The page keeps no truth of its own: what it shows
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
