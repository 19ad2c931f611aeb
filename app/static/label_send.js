// The reading screen, part 2: the way to the server. A verdict stays in this browser until the server has kept it, and
// is sent again under the same name, so that it is kept once whatever happens in between.
const OUTBOX = 'promptloupe-unsent';
const PATIENCE = 20000, PAUSES = [500, 1000, 2000, 5000];
let hurry = null, refused = '';

const randomName = length => [...crypto.getRandomValues(new Uint8Array(length / 2))].map(b => b.toString(16).padStart(2, '0')).join('');

function unsent() {
  try { return JSON.parse(localStorage.getItem(OUTBOX) || '{}'); } catch { return {}; }
}

function setUnsent(name, content) {
  const all = unsent();
  if (content) all[name] = content;
  else delete all[name];
  try { localStorage.setItem(OUTBOX, JSON.stringify(all)); } catch { /* no room, or not allowed: the page itself still holds it */ }
}

// One try; null where there was no answer. (Gradio's own call gives nothing for a refused request.)
async function ask(name, content) {
  const late = new Promise(done => setTimeout(done, PATIENCE));
  try { return await Promise.race([server[name](content), late]) || null; } catch { return null; }
}

const pause = time => new Promise(done => { hurry = done; setTimeout(done, time); });

function worry(what) {
  part('trouble').hidden = false;
  part('trouble-said').textContent = what;
  element.querySelector('[data-command="retry"]').hidden = what === refused;
}

// What the server refused stays on the page until a verdict is kept.
function refuse(what) {
  refused = what;
  worry(what);
}

function calm() {
  if (refused) worry(refused);
  else part('trouble').hidden = true;
}

// Ask until there is an answer, or nobody wants it any more.
async function insist(name, content, wanted = () => true) {
  const held = name === 'keep' ? ' Your verdict is kept in this browser and sent again until the server has it; please stay on this page.' : '';
  for (let tries = 0; element.isConnected && wanted(); tries++) {
    const answer = await ask(name, content);
    if (answer && !answer.again) {
      calm();
      return answer;
    }
    worry((answer ? answer.problem : 'The server does not answer.') + held);
    await pause(PAUSES[Math.min(tries, PAUSES.length - 1)]);
  }
  return null;
}

// Have verdicts kept: the answer, once they are.
async function deliver(home, content) {
  const name = content.entries[0].event;
  setUnsent(name, {home, content});
  const answer = await insist('keep', content);
  if (answer) setUnsent(name, null);
  return answer;
}
