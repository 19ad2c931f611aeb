// The reading screen, part 4: the queue and the way through it. The page keeps no truth of its own: what it shows
// comes from the server.
const root = part('root');
const WORDS = {unsure: 'unsure', not_gradable: 'not gradable', skip: 'skipped', flag: 'flagged', undo: 'taken back'};
const LETTERS = 'abcdehijklmnopqrtx';  // without those that are commands
const AHEAD = 5, REFRESH = 10, PAST = 12;
let session = null, opening = 0, ticket = 0, view = 'one', since = 0, looked = 0, telling = null, pictures = new Map();
let large = null, arriving = false;  // the task whose image is on screen, large; whether another image is on its way

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

const className = id => (session && session.names.get(id)) || 'a class that is gone';
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
  const request = props.value ? JSON.parse(props.value) : null;
  if (request && staysOpen(request)) {
    session.request = request;
    return catchUp();
  }
  const turn = ++opening;
  session = null;
  calm('refused');
  root.hidden = !request;
  blank(request ? 'One moment …' : '');
  onScreen(null);
  if (!request) return;
  part('title').textContent = 'One moment …';
  const wanted = () => turn === opening;
  let answer = await insist('look', request, wanted);
  if (!wanted() || !answer) return;
  if (answer.problem) return refuse(answer.problem);
  session = {dataset: request.dataset, annotator: request.annotator, request, list: Boolean(request.samples), changes: 0};
  take(answer);
  if (await sendLeftovers()) {
    answer = await insist('look', request, wanted);
    if (!wanted() || !answer || answer.problem) return;
    take(answer);
  }
  pictures = new Map();
  session.had = session.tasks.length;
  session.at = Math.max(0, session.list ? 0 : session.tasks.findIndex(waits));
  part('before').textContent = '';
  drawSession(answer);
  setView(view);
}

// The same queue again, while its images are being read: nobody's image is taken out of their hands.
function staysOpen(request) {
  const reading = session && !session.list && !session.over && (large || several());
  return reading && !request.samples && !request.first && request.dataset === session.dataset && request.annotator === session.annotator;
}

async function catchUp() {
  const here = session, looks = ({blind, classes}) => JSON.stringify([blind, classes, current()?.offered]), before = looks(here);
  let answer = await refresh();
  while (!answer && busy() && session === here) {  // a verdict came in between
    await rest(PAUSES[0]);
    answer = await refresh();
  }
  if (!answer || session !== here || looks(answer) === before) return;
  drawSession(answer);
  if (!several()) show();
}

function drawSession(answer) {
  drawClasses();
  part('title').textContent = answer.title || 'Your queue';
  part('mode').textContent = answer.blind ? 'Blind: without suggestions' : 'Assisted: with suggestions';
  drawPast();
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
    blind: answer.blind, thumbnails: answer.thumbnails, ...pastOf(answer),
    classes: answer.classes, names: new Map(answer.classes.map(each => [each.id, each.name])),
    home: `${answer.workspace}/${session.dataset}/${session.annotator}`,
  });
  if (now) session.at = Math.max(0, session.tasks.indexOf(now));
}

const pastOf = ({past, undoable, redoable, undo_next, redo_next}) => ({past, undoable, redoable, next: {undo: undo_next, redo: redo_next}});
const waits = task => !task.said || task.said.verdict === 'skip';
const current = () => session && (session.again || session.tasks[session.at]);
const several = () => view === 'many' && !(session && session.again);

// --- on and back --------------------------------------------------------------------

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
  const here = session, before = here?.changes;
  if (!here) return null;  // left while somebody waited
  const answer = await insist('look', here.request, () => session === here);
  // An answer from before a verdict was kept would bring its image back.
  if (!answer || answer.problem || session !== here || busy() || here.changes !== before) return null;
  take(answer);
  drawPast();
  if (several()) grid.draw();
  drawHead();
  preload();
  return answer;
}

// Nothing seems to be left: ask whether there is more before saying so.
async function finish() {
  const here = session;
  arriving = false;
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
