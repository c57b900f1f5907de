// The pages beside the sale: the list, an order. Times become the reader's own, and the
// page renews itself when the server said that something may have changed.

const lang = document.documentElement.lang;
for (const time of document.querySelectorAll('time[datetime]')) {
  const text = new Intl.DateTimeFormat(lang, { dateStyle: 'medium', timeStyle: 'medium' });
  time.textContent = text.format(new Date(time.dateTime));
}

const renew = Number(document.querySelector('main').dataset.renew);
function reload() {
  // A page that nobody sees can wait until somebody does.
  if (document.hidden) document.addEventListener('visibilitychange', reload, { once: true });
  else location.reload();
}
// Not everybody at once.
if (renew > 0) setTimeout(reload, renew * 1000 + Math.random() * 1000);
