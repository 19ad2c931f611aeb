// The reading screen, part 3: the queue as a grid of thumbnails, of which several can be selected.
const PAGE = 60;

// `host` gives tasks(), dataset(), said(task) for what is decided, address(task); it is told of open(task) and
// chosen(tasks).
function makeGrid(host) {
  const cells = part('cells');
  let first = 0, focus = 0, anchor = 0, chosen = new Set();
  const shown = () => host.tasks().slice(first, first + PAGE);

  function cellOf(task, place) {
    const cell = document.createElement('div'), frame = document.createElement('span'), said = document.createElement('span');
    const image = document.createElement('img');
    cell.setAttribute('role', 'option');
    cell.dataset.place = place;
    frame.className = 'pl-frame';
    image.loading = 'lazy';
    image.draggable = false;
    image.alt = '';
    image.onerror = async () => {
      image.onerror = null;
      const picture = await ask('picture', {dataset: host.dataset(), sample: task.sample});
      if (picture && picture.url) image.src = picture.url;
      else frame.textContent = 'cannot be shown';
    };
    image.src = host.address(task);
    said.className = 'pl-caption';
    frame.append(image);
    cell.append(frame, said);
    return cell;
  }

  function mark() {
    const tasks = shown();
    [...cells.children].forEach((cell, place) => {
      const task = tasks[place], said = host.said(task);
      cell.setAttribute('aria-selected', chosen.has(task));
      cell.tabIndex = place === focus ? 0 : -1;
      cell.classList.toggle('done', Boolean(said));
      cell.lastChild.textContent = said;
      cell.setAttribute('aria-label', `Image ${first + place + 1}: ${said || 'not decided'}`);
    });
    const all = host.tasks().length, last = Math.min(all, first + PAGE);
    part('selected').textContent = `${chosen.size} selected · ${all ? first + 1 : 0}–${last} of ${all}`;
    host.chosen(shown().filter(task => chosen.has(task)));
    for (const [name, off] of [['page-back', first === 0], ['page-next', last >= all]]) element.querySelector(`[data-command="${name}"]`).disabled = off;
  }

  function draw() {
    if (first >= host.tasks().length) first = 0;
    focus = within(focus, 0, Math.max(0, shown().length - 1));
    cells.replaceChildren(...shown().map(cellOf));
    mark();
  }

  function turn(by) {
    const next = within(first + by * PAGE, 0, Math.floor(Math.max(0, host.tasks().length - 1) / PAGE) * PAGE);
    if (next === first) return;
    first = next;
    focus = anchor = 0;
    chosen = new Set();
    draw();
    cells.firstChild?.focus();
  }

  function move(by, extend) {
    focus = within(focus + by, 0, shown().length - 1);
    if (extend) range();
    else anchor = focus;
    mark();
    cells.children[focus]?.focus();
    cells.children[focus]?.scrollIntoView({block: 'nearest'});
  }

  function range() {
    const [from, to] = [Math.min(anchor, focus), Math.max(anchor, focus)];
    chosen = new Set(shown().slice(from, to + 1));
  }

  function toggle(place) {
    const task = shown()[place];
    if (!chosen.delete(task)) chosen.add(task);
    focus = anchor = place;
    mark();
  }

  function pick(place, extend) {
    focus = place;
    if (extend) range();
    else {
      anchor = place;
      chosen = new Set([shown()[place]]);
    }
    mark();
  }

  cells.addEventListener('click', event => {
    const cell = event.target.closest('[data-place]') || event.target.closest('[role="option"]');
    if (!cell) return;
    const place = [...cells.children].indexOf(cell);
    if (event.ctrlKey || event.metaKey) toggle(place);
    else pick(place, event.shiftKey);
    cell.focus();
  });
  cells.addEventListener('dblclick', event => {
    const cell = event.target.closest('[role="option"]');
    if (cell) host.open(shown()[[...cells.children].indexOf(cell)]);
  });

  const columns = () => getComputedStyle(cells).gridTemplateColumns.split(' ').length;

  // What a key does in the grid; nothing for keys that it does not know.
  function command(event) {
    const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns()};
    if (event.key in steps) return () => move(steps[event.key], event.shiftKey);
    return {
      ' ': () => toggle(focus),
      Enter: () => shown()[focus] && host.open(shown()[focus]),
      Escape: none,
      PageUp: () => turn(-1),
      PageDown: () => turn(1),
    }[event.key];
  }

  function all() { chosen = new Set(shown()); mark(); }
  function none() { chosen = new Set(); mark(); }

  return {
    draw, mark, turn, command, all, none,
    chosen: () => shown().filter(task => chosen.has(task)),
    select(tasks) {
      const place = host.tasks().indexOf(tasks[0]);
      if (place >= 0) first = Math.floor(place / PAGE) * PAGE;
      focus = anchor = Math.max(0, place - first);
      chosen = new Set(tasks);
      draw();
    },
    focus: () => cells.children[focus]?.focus(),
  };
}
