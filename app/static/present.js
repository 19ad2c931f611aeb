// Shows slides over the whole screen. They come as a page of their own, in a frame that may run its script and nothing else.
let stage = null;
const colours = () => document.body.classList.contains('dark') ? 'dark' : 'light';

function leave() {
  if (!stage) return;
  stage.remove();
  stage = null;
  if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
  asked?.focus();
}

let asked = null;
function open(button) {
  leave();
  asked = button;
  stage = document.createElement('div');
  stage.className = 'pl-stage';
  stage.setAttribute('role', 'dialog');
  stage.setAttribute('aria-label', 'Slides');
  stage.tabIndex = -1;
  stage.append(words('One moment …'));
  document.body.append(stage);
  stage.focus();
  stage.requestFullscreen?.().catch(() => {});
}

function words(text) {
  const line = document.createElement('p');
  line.textContent = text;
  return line;
}

function show() {
  if (!stage || !props.value) return;
  const given = JSON.parse(props.value);
  if (!given.page) { stage.replaceChildren(words(`${given.problem} Press Esc to leave.`)); return; }
  const frame = document.createElement('iframe');
  frame.setAttribute('sandbox', 'allow-scripts');
  frame.title = 'Slides';
  frame.srcdoc = given.page.replace('<html', `<html data-theme="${colours()}"`);
  frame.addEventListener('load', () => frame.focus());
  stage.replaceChildren(frame);
}

watch('value', show);
document.addEventListener('click', event => {
  const button = event.target.closest?.('[data-action="present"]');
  if (button && element.isConnected) open(button);
});
window.addEventListener('message', event => {
  if (stage && event.source === stage.querySelector('iframe')?.contentWindow && event.data === 'promptloupe-leave') leave();
});
// The browser itself leaves the full screen on Esc, and tells no page about the key.
document.addEventListener('fullscreenchange', () => { if (!document.fullscreenElement) leave(); });
// Keys belong to the slides, whatever has the focus.
window.addEventListener('keydown', event => {
  if (!stage) return;
  event.stopPropagation();
  if (event.key === 'Escape') leave();
  else stage.querySelector('iframe')?.focus();
}, true);
