// The list and the order page. Shows times in the reader's time zone, and reloads the page
// when the server expects a change.

const lang = document.documentElement.lang;
for (const time of document.querySelectorAll('time[datetime]')) {
  const text = new Intl.DateTimeFormat(lang, { dateStyle: 'medium', timeStyle: 'medium' });
  time.textContent = text.format(new Date(time.dateTime));
}

const renew = Number(document.querySelector('main').dataset.renew);
function reload() {
  // A hidden page waits until somebody looks at it.
  if (document.hidden) document.addEventListener('visibilitychange', reload, { once: true });
  else location.reload();
}
// With jitter: not all browsers at once.
if (renew > 0) setTimeout(reload, renew * 1000 + Math.random() * 1000);
