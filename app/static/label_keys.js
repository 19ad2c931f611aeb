// The reading screen, part 7: commands, by key and by mouse.

function browse(by) {
  if (busy() || !session || !session.tasks.length) return;
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
  retry: hurry, 'flag-keep': keepFlag, 'flag-leave': () => part('flag-box').close(),
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
  if (key === ',' || key === '.') return () => screen.contrast(key === '.');
  if (key === 'w') return screen.nextWindow;
  if (key === '/' && !part('filter').hidden) return () => part('filter').focus();
  if (key in KEYS) return event.repeat && !REPEATED.has(KEYS[key]) ? () => {} : COMMANDS[KEYS[key]];
  const chosen = classAt(key);
  return chosen ? () => { if (!event.repeat) decide('label', chosen.id); } : null;
}

// Whether the key belongs to what has the focus: text fields take all, sliders and buttons what moves and presses them.
function taken(target, key) {
  // A field that was closed keeps the focus until the browser draws the next time: the comment of a flag, say.
  if (!(target instanceof Element) || !target.checkVisibility()) return false;
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
