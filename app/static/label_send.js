// The reading screen, part 2: the way to the server. A verdict stays in this browser until the server has kept it, and
// is sent again under the same name, so that it is kept once whatever happens in between.
const OUTBOX = 'promptloupe-unsent/';
const PATIENCE = 8000, PAUSES = [500, 1000, 2000, 5000], OPEN_AT_ONCE = 2, SLOW = 500;
const sleepers = new Set(), troubles = new Map();

const randomName = length => [...crypto.getRandomValues(new Uint8Array(length / 2))].map(b => b.toString(16).padStart(2, '0')).join('');

// --- what is not sent yet: one entry a verdict, so that tabs never write over each other's ---------------

// The verdicts of this home (workspace, data set, reader) that no server has confirmed, oldest first.
function unsent(home) {
  let keys = [];
  try { keys = Object.keys(localStorage).filter(each => each.startsWith(OUTBOX)); } catch { /* not allowed here */ }
  const read = key => { try { return JSON.parse(localStorage.getItem(key)); } catch { return null; } };
  return keys.map(read).filter(each => each && each.home === home).sort((a, b) => a.at - b.at || a.place - b.place);
}

let places = 0;
function hold(home, entries) {
  const key = OUTBOX + entries[0].event;
  try {
    if (!localStorage.getItem(key)) localStorage.setItem(key, JSON.stringify({home, entries, at: Date.now(), place: places++}));
  } catch { /* no room, or not allowed: the page itself still holds it */ }
}

function release(entries) {
  try { localStorage.removeItem(OUTBOX + entries[0].event); } catch { /* as above */ }
}

// --- what is the matter ------------------------------------------------------------

// `matter` is anything that can be calmed again; `what` gives the words, as they are when they are drawn.
function worry(matter, what) {
  troubles.set(matter, what);
  drawTrouble();
}

function calm(matter) {
  troubles.delete(matter);
  drawTrouble();
}

function drawTrouble() {
  const words = [...new Set([...troubles.values()].map(what => what()))];
  part('trouble').hidden = !words.length;
  if (part('trouble-said').textContent !== words.join(' ')) part('trouble-said').textContent = words.join(' ');  // or it is read out again
  element.querySelector('[data-command="retry"]').hidden = [...troubles.keys()].every(matter => matter === 'refused');
}

// What the server refused stays on the page until a verdict is kept.
const refuse = what => worry('refused', () => what);

// --- asking ------------------------------------------------------------------------

// One try; null where there was no answer. (Gradio's own call gives nothing for a refused request.)
async function ask(name, content) {
  try { return await server[name](content) || null; } catch { return null; }
}

function rest(time) {
  return new Promise(done => {
    const wake = () => { sleepers.delete(wake); clearTimeout(alarm); done(); };
    const alarm = setTimeout(wake, time);
    sleepers.add(wake);
  });
}
const hurry = () => { for (const wake of [...sleepers]) wake(); };

// The network is back, or the laptop was opened: do not sit out the pause.
function onReturn() {
  if (element.isConnected) return document.hidden ? undefined : hurry();
  window.removeEventListener('online', onReturn);
  document.removeEventListener('visibilitychange', onReturn);
}
window.addEventListener('online', onReturn);
document.addEventListener('visibilitychange', onReturn);

// Ask until there is an answer, or nobody wants it any more. A try that is late may still bring it; `waits` says what
// stands on the page meanwhile, for what nobody should have to wait for unawares.
async function insist(name, content, wanted = () => true, waits = null) {
  const matter = {};
  let found = null, open = 0, arrive;
  const arrived = new Promise(done => { arrive = done; });
  async function send() {
    open++;
    const answer = await ask(name, content);
    open--;
    if (answer && !answer.again) arrive(found = answer);
    return answer;
  }
  const slow = waits && setTimeout(() => worry(matter, () => `${waits()} Waiting for the server …`), SLOW);
  for (let tries = 0; !found && element.isConnected && wanted(); tries++) {
    const answer = await Promise.race([arrived, open < OPEN_AT_ONCE ? send() : rest(PATIENCE), rest(PATIENCE)]);
    if (found) break;
    const problem = answer ? answer.problem : 'The server does not answer; trying again …';
    worry(matter, () => (waits ? `${waits()} ${problem}` : problem));
    await Promise.race([arrived, rest(PAUSES[Math.min(tries, PAUSES.length - 1)])]);
  }
  clearTimeout(slow);
  calm(matter);
  return found;
}
