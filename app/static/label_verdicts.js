// The reading screen, part 5: verdicts, and steps back and forth. They are settled one after the other in the order of
// their keys, and each means the image that was on screen when its key was pressed. The next image shows when the
// verdict on this one is kept; what is pressed until then corrects it.
const line = [];  // what was pressed and is not settled, oldest first
const busy = () => line.length > 0;

function inTurn(work) {
  const settled = new Promise(done => line.push({...work, done}));
  drawTrouble();
  if (line.length === 1) runLine();
  return settled;
}

async function runLine() {
  root.dataset.busy = '';
  while (line.length) {
    let after = null;
    try { after = await line[0].run(line[0]); } catch (error) {
      console.error(error);
      refuse('The page made a mistake here. Reload it; what was kept is safe.');
    }
    line.shift().done();
    if (!line.length) {
      delete root.dataset.busy;
      if (after) after();
    }
  }
}

// --- verdicts ---------------------------------------------------------------------

const inHand = () => (several() ? grid.chosen() : large ? [large] : []);

function decide(verdict, classId = null, comment = '', tasks = inHand()) {
  if (!session) return;
  if (!tasks.length) return several() ? say('Select images first, then press a key for all of them.') : undefined;
  if (saidJustNow(verdict, classId, comment, tasks)) return;
  const press = randomName(24), spent = seconds() / tasks.length, here = session;
  const entries = tasks.map((task, place) => ({
    sample: task.sample, verdict, class_id: classId, comment, seen: task.seen || null, round_id: task.round,
    event: tasks.length > 1 ? `${press}-${place}` : press + randomName(8), occasion: task.occasion,
    seconds: Math.round(1000 * spent) / 1000, ...aidsOf(task),
  }));
  looked = performance.now();
  hold(here.home, entries);
  inTurn({here, entries, tasks, verdict, run: settleVerdicts});
}

// The same key again while its verdict is on the way is the same verdict.
function saidJustNow(verdict, classId, comment, tasks) {
  const last = line.at(-1), said = last && last.entries && last.entries[0];
  return said && said.verdict === verdict && said.class_id === classId && said.comment === comment
    && last.tasks.length === tasks.length && tasks.every(task => last.tasks.includes(task));
}

// What the reader saw beside the image. The grid shows no suggestions.
function aidsOf(task) {
  const aids = {blind: session.blind, view: several() ? 'grid' : 'one'};
  if (several() || !task.top) return {aids};
  return {aids: {...aids, suggestions: task.top, ...(task.offered ? {offered: task.offered} : {})}, model: task.model || ''};
}

// Verdicts that an earlier visit, or one that broke off, could not bring to the server.
async function sendLeftovers() {
  const here = session, under = new Set(line.flatMap(each => each.entries || []).map(entry => entry.event));
  const left = unsent(here.home).filter(each => !under.has(each.entries[0].event)), tasks = new Map();
  const taskOf = entry => {
    const key = `${entry.sample}/${entry.occasion}`;
    if (!tasks.has(key)) tasks.set(key, {sample: entry.sample, occasion: entry.occasion});
    return tasks.get(key);
  };
  await Promise.all(left.map(({entries}) => inTurn({here, entries, tasks: entries.map(taskOf), run: work => keep(work).then(() => null)})));
  return left.length > 0;
}

async function settleVerdicts(work) {
  const kept = await keep(work);
  return kept && session === work.here ? () => afterVerdict(work.tasks, work.verdict) : null;
}

// “lymphocyte”, “unsure”: all that waits to be kept, in words.
function notKept() {
  const said = line.filter(each => each.entries && each.here === session).map(each => `“${words(each.entries[0])}”`);
  return `Not saved yet: ${said.join(', ') || 'a verdict'}. It is kept in this browser and sent until the server has it; please stay on this page.`;
}

// Have verdicts kept, and ask about those that another tab knows better; true when all is settled.
async function keep({here, entries, tasks}) {
  hold(here.home, entries);
  const answer = await insist('keep', {dataset: here.dataset, annotator: here.annotator, entries}, undefined, notKept);
  if (!answer) return false;
  release(entries);
  if (answer.problem) {
    refuse(`This was not kept: “${words(entries[0])}”. ${answer.problem}`);
    return false;
  }
  calm('refused');
  const conflicts = [];
  let told = null;
  answer.receipts.forEach((receipt, place) => {
    const entry = entries[place], task = tasks[place];
    if (receipt.conflict) conflicts.push({entry, task, conflict: receipt.conflict});
    else told = settle(here, task, {...entry, id: receipt.id, time: clock()}, receipt);
  });
  tell('kept');
  if (told && session === here) drawBefore(told, entries.length - conflicts.length);
  if (!conflicts.length) return true;
  if (session !== here) {
    refuse(`Not kept: “${words(conflicts[0].entry)}”, because in another window you had called that image “${words(conflicts[0].conflict)}”.`);
    return false;
  }
  if (await resolve(conflicts)) return keep({here, entries: conflicts.map(each => ({...each.entry, seen: each.conflict.id})), tasks: conflicts.map(each => each.task)});
  for (const {task, conflict} of conflicts) mirror(here, task, conflict);
  return true;
}

function settle(here, task, said, receipt) {
  mirror(here, task, said);
  here.changes++;
  const listed = {...said, thumbnail: task.thumbnail};
  if (task.thumbnail) here.past = [listed, ...here.past.filter(each => each.sample !== said.sample)].slice(0, PAST);
  here.undoable++;
  here.redoable = 0;
  here.next = {undo: said.id, redo: null};
  if (session === here) drawPast();
  return {said, receipt};
}

// What is said of an image now, wherever it stands in the queue, and for what was pressed since.
function mirror(here, task, said) {
  const alike = each => each.sample === task.sample && (each.occasion === 'repeat') === (task.occasion === 'repeat');
  for (const each of new Set([task, ...here.tasks.filter(other => task.occasion !== 'repeat' && alike(other))])) Object.assign(each, {said, seen: said.id});
  for (const entry of line.slice(1).flatMap(each => (each.here === here && each.entries) || [])) if (alike(entry)) entry.seen = said.id;
}

function afterVerdict(tasks, verdict) {
  session.kept = (session.kept || 0) + tasks.length;
  if (session.again) return tasks.includes(session.again) ? leave() : undefined;
  const done = !arriving && (tasks.includes(current()) || tasks.includes(large));
  if (verdict === 'skip' && !session.list) putOff(tasks);
  if (!several()) return done ? onwards() : drawHead();
  grid[verdict === 'skip' ? 'draw' : 'mark']();
  drawHead();
  looked = performance.now();
  if (!session.list && !session.tasks.some(waits)) finish();
}

// Skipped images come again when all others are decided.
function putOff(tasks) {
  const now = current(), at = session.at;
  session.tasks = [...session.tasks.filter(task => !tasks.includes(task)), ...tasks];
  if (tasks.includes(now)) session.at = several() ? 0 : within(at, 0, session.tasks.length - 1) - 1;
  else session.at = Math.max(0, session.tasks.indexOf(now));
}

function onwards() {
  part('stage').scrollIntoView({block: 'nearest'});
  forward();
  if (!session.list && session.kept % REFRESH === 0) refresh();
}

// --- back and forth ----------------------------------------------------------------

function turnBack(what) {
  if (!session) return;
  if (what === 'redo' && busy()) return say('There is nothing to put back.');
  inTurn({here: session, what, event: randomName(24), run: settleTurn});
}

// The step means the verdict that this page shows as the next one; where another window was faster nothing is moved.
async function settleTurn({here, what, event}) {
  if (session !== here) return null;
  const of = here.next[what], nothing = what === 'undo' ? 'There is nothing to take back.' : 'There is nothing to put back.';
  if (!of) return () => { tellStep(nothing); lookAround(); };
  const waiting = () => (what === 'undo' ? 'Not taken back yet.' : 'Not put back yet.');
  const answer = await insist('turn', {dataset: here.dataset, annotator: here.annotator, what, of, event}, () => session === here, waiting);
  if (!answer || session !== here) return null;
  if (answer.problem) return void refuse(answer.problem);
  session.changes++;
  Object.assign(session, pastOf(answer));
  drawPast();
  if (answer.overtaken) {
    tellStep(answer.overtaken);
    return lookAround;
  }
  session.again = null;
  const changed = answer.tasks.map(task => placed(task, answer));
  tellStep(`${what === 'undo' ? 'Taken back' : 'Put back'}: ${words(answer.verdict)}${changed.length > 1 ? `, ${changed.length} images` : ''}.`);
  tell('kept');
  if (!changed.length) return null;
  session.over = false;
  if (several()) { drawView(); grid.select(changed); return null; }
  session.at = session.tasks.indexOf(changed[0]);
  if (what === 'redo') return forward;
  show();
  return null;
}

// Other windows have changed something: what stands on this page follows.
async function lookAround() {
  if (session.over) return finish();
  await refresh();
  if (large) drawTask(large);
}

function tellStep(what) {
  part('before').textContent = what;
  say(what);
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
