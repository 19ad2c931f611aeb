document.addEventListener('click', event => {
  const what = event.target.dataset?.do;
  if (what === 'print') window.print();
  if (what === 'theme') {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark';
  }
});
