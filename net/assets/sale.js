// The sale page: one state machine that the server drives.
//
//   upcoming ─▶ open ─▶ sending ─▶ won | held | entered ─▶ won | lost
//                 ▲        │ ▲
//                 │        ▼ │     challenge: a sum to solve first
//                 └─ limited, waiting, challenge, offline
//
// Only the server knows the state of the item and of the order; `phase` is what this page
// is doing meanwhile. Every purchase carries the same idempotency key until its order is
// over, so a double click, a reload, a second tab and a lost response all lead to the same
// order.

const main = document.querySelector('main[data-item]');
const at = (id) => document.getElementById(id);
const words = JSON.parse(main.dataset.words);
const id = main.dataset.item;
const demo = main.dataset.demo === 'true';
const button = at('buy');
const lang = document.documentElement.lang;

const LIVE = ['accepted', 'entered', 'confirmed', 'held', 'pending', 'paid'];
const OF_ORDER = { accepted: 'waiting', entered: 'entered', confirmed: 'won', paid: 'won', held: 'held', pending: 'held', lost: 'lost' };
const TRIES_MAX = 9;

// ---- what the page knows ----

let item = {
  state: main.dataset.state, opens_at_ms: +main.dataset.opens, closes_at_ms: +main.dataset.closes,
  payment: main.dataset.payment, refresh_ms: +main.dataset.refresh, stock_band: at('band').dataset.band,
};
let order = null;
let phase = '';           // sending, challenge, waiting, limited, or nothing
let until = 0;            // when `limited` ends, on the server's clock
let signedOut = false;    // nobody is signed in, and this page cannot change that
let notEligible = false;  // the shop does not sell this item to the account
let offline = !navigator.onLine;
let aside = '';           // a message about what has just happened,
let asideIn = [];         // shown for as long as one of these states lasts
let ticket = null;
let challenge = null;
let running = false;
let bought = false;       // a purchase is under way, or will be tried again

// ---- the server's clock ----

let offset = Date.now() - performance.now();
let trip = Infinity;
let heardOnce = false;    // until then the page does not trust the device's clock
const now = () => performance.now() + offset;

function heard(serverMs, sent, got) {
  // The error is at most half the round trip, so the shortest round trip counts.
  if (got - sent > trip) return;
  trip = got - sent;
  heardOnce = true;
  offset = serverMs + trip / 2 - got;
}

let synchronising = false;
async function synchronise() {
  if (synchronising) return;
  synchronising = true;
  trip = Infinity;
  for (let probe = 0; probe < 5; probe += 1) {
    const sent = performance.now();
    const answer = await ask('GET', '/v1/time');
    if (answer.status === 200) heard(answer.body.now_ms, sent, performance.now());
    else break;
    await pause(60 + Math.random() * 120);
  }
  synchronising = false;
  show();
}

// ---- requests ----

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const around = (ms) => ms * (0.75 + Math.random() * 0.5);
const backoff = (tries) => Math.random() * Math.min(30000, 500 * 2 ** tries);

// Status 0: no response. The server may still have carried out the request.
async function ask(method, path, body, headers = {}) {
  const init = { method, headers: { Accept: 'application/json', ...headers }, cache: 'no-store', credentials: 'same-origin' };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers['Content-Type'] = 'application/json';
  }
  if (AbortSignal.timeout) init.signal = AbortSignal.timeout(35000);
  try {
    const answer = await fetch(path, init);
    const text = await answer.text();
    let json = {};
    try { json = JSON.parse(text); } catch { /* a proxy's page */ }
    const seconds = Number(answer.headers.get('Retry-After')) || 0;
    const again = json.retry_after_ms || seconds * 1000;
    return { status: answer.status, code: json.code || '', body: json, again, replay: answer.headers.has('Idempotent-Replay') };
  } catch {
    return { status: 0, code: '', body: {}, again: 0, replay: false };
  }
}

// ---- the idempotency key ----

const PLACE = `stampede:${id}`;
let memory = null;

function stored() {
  try { return JSON.parse(localStorage.getItem(PLACE)) || memory || {}; } catch { return memory || {}; }
}

function store(value) {
  memory = value;
  try { localStorage.setItem(PLACE, JSON.stringify(value)); } catch { /* this tab alone remembers */ }
}

// Read from storage at each press: another tab may have made the key.
function key() {
  const known = stored();
  if (known.key) return known.key;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const made = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  store({ key: made });
  return made;
}

// The order is over for good: the next try is a new purchase, with a new key.
function forget() {
  store({});
  key();
}

// ---- orders ----

const isOver = (it) => ['cancelled', 'expired', 'refunded', 'lost'].includes(it.state);

function take(it) {
  const was = order && order.state;
  order = it;
  phase = '';
  bought = false;
  signedOut = false;
  if (it.state === 'lost') forget();
  else if (isOver(it)) {
    order = null;
    forget();
    if (was || running) remark({ expired: words.n_expired, cancelled: words.n_cancelled, refunded: words.n_refunded }[it.state], 'open', 'sold_out');
  } else if (stored().order !== it.order_id) store({ key: key(), order: it.order_id });
  show();
  follow();
}

async function readOrder(which) {
  const wait = order && order.state === 'accepted' ? '?wait_ms=10000' : '';
  const answer = await ask('GET', `/v1/orders/${which}${wait}`);
  if (answer.status === 200) take(answer.body);
  reached(answer.status !== 0);
  return answer.status === 200;
}

// Looks for the buyer's order of this item: a live one if there is one, else the last.
async function findOrder() {
  let last = null;
  let signed = false;
  let after = '';
  for (let page = 0; page < 20; page += 1) {
    const answer = await ask('GET', `/v1/orders?limit=200${after}`);
    if (answer.status === 401 && demo && !signed && !running && ['upcoming', 'open'].includes(item.state)) {
      // The demo makes its buyer early, so that the first press does not have to wait for it.
      signed = true;
      if (await signIn()) continue;
    }
    if (answer.status !== 200) return;
    for (const it of answer.body.orders) {
      if (String(it.item_id) === id && !(last && LIVE.includes(last.state))) last = it;
    }
    if (!answer.body.has_more) break;
    after = `&after=${answer.body.orders.at(-1).order_id}`;
  }
  if (running || !last) return;
  if (LIVE.includes(last.state) || last.state === 'lost') take(last);
  else if (stored().order === last.order_id) forget();
}

let orderTimer = 0;
function follow() {
  clearTimeout(orderTimer);
  if (!order || document.hidden) return;
  let wait = 0;
  if (order.state === 'accepted') wait = 300;
  else if (order.state === 'entered') {
    const left = (drawsAt() || 0) - now();
    wait = left > 0 ? left + 300 + Math.random() * 1500 : around(2000);
  } else if (order.state === 'held' || order.state === 'pending') {
    const left = order.pay_by_ms ? order.pay_by_ms - now() : Infinity;
    wait = left > -1000 && left < 6000 ? Math.max(left, 0) + 150 + Math.random() * 300 : around(5000);
  } else return;
  orderTimer = setTimeout(async () => {
    if (order && !(await readOrder(order.order_id))) follow();
  }, Math.min(wait, 2 ** 31 - 1));
}

// ---- the item ----

let pollTimer = 0;
let misses = 0;

function schedule(ms) {
  clearTimeout(pollTimer);
  const settled = ['won', 'lost'].includes(state()) || item.state === 'ended';
  if (!document.hidden && !settled) pollTimer = setTimeout(poll, ms);
}

async function poll() {
  const sent = performance.now();
  const answer = await ask('GET', `/v1/items/${id}`);
  reached(answer.status !== 0);
  if (answer.status === 200) {
    misses = 0;
    item = answer.body;
    if (trip === Infinity) heard(item.now_ms, sent, performance.now());
    show();
    schedule(around(Math.max(item.refresh_ms, 500)));
  } else {
    misses += 1;
    schedule(Math.max(answer.again, around(Math.min(60000, 1000 * 2 ** misses))));
  }
}

function reached(yes) {
  const was = offline;
  offline = !yes && (!navigator.onLine || misses > 0);
  if (was !== offline) show();
}

const drawsAt = () => (item.draw ? item.draw.draws_at_ms : 0);
const draws = () => drawsAt() > now();

// ---- the one state ----

function ofItem() {
  if (!heardOnce) return item.state;
  if (item.state === 'upcoming' && now() >= item.opens_at_ms) return 'open';
  if (['open', 'sold_out'].includes(item.state) && now() >= item.closes_at_ms) return 'ended';
  return item.state;
}

function state() {
  const had = order ? OF_ORDER[order.state] : '';
  if (had === 'won' || had === 'lost') return had;
  if (offline) return 'offline';
  if (had) return had;
  if (signedOut || notEligible) return 'limited';
  return phase || ofItem();
}

function buttonText(is) {
  if (is === 'open' && draws()) return words.b_draw;
  if (is === 'limited' && signedOut) return words.b_sign_in;
  if (is === 'limited' && notEligible) return words.b_not_eligible;
  if (is === 'held' && order.state === 'pending') return words.b_pending;
  return words[`b_${is}`];
}

function noteText(is) {
  if (aside) return aside;
  if (is === 'open' && draws()) return words.n_draw;
  if (is === 'limited' && signedOut) return words.n_sign_in;
  if (is === 'limited' && notEligible) return words.n_not_eligible;
  if (is === 'held') return `${order.state === 'pending' ? words.n_pending : words.n_held}${demo ? '' : ` ${words.pay_shop}`}`;
  if (is === 'won' && order.state === 'paid') return words.n_paid;
  if (is === 'sold_out' && item.payment === 'hold') return words.n_sold_out_hold;
  return words[`n_${is}`];
}

// ---- display ----

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let shown = main.dataset.state;

function show() {
  const is = state();
  if (!asideIn.includes(is)) aside = '';
  main.dataset.state = is;
  if (order) main.dataset.order = order.order_id;
  else delete main.dataset.order;
  put(button, buttonText(is));
  put(at('note'), noteText(is));
  if (is === 'open' || is === 'challenge') button.removeAttribute('aria-disabled');
  else button.setAttribute('aria-disabled', 'true');
  const band = at('band');
  put(band, words[`band_${item.stock_band}`] || '');
  band.dataset.band = item.stock_band;
  at('puzzle').hidden = is !== 'challenge';
  showOrder(is);
  showSeal();
  showTime(is);
  if (is !== shown) {
    shown = is;
    say(is === 'open' && !aside && !draws() ? words.say_open : `${buttonText(is)}. ${noteText(is)}`);
  }
}

function showOrder(is) {
  at('order').hidden = !order;
  if (!order) return;
  put(at('order-id'), words.order.replace('{n}', order.order_id));
  at('pay').hidden = !(demo && is === 'held');
  at('cancel').hidden = is !== 'held';
}

function showSeal() {
  const draw = item.draw;
  at('seal').hidden = !draw;
  if (draw) put(at('seal'), draw.seed ? `${words.draw_seed} ${draw.seed}` : `${words.draw_seal} ${draw.commitment}`);
}

// The moment that the clock counts down to, and its label.
function goal(is) {
  if (is === 'limited' && until > now()) return [until, words.t_retries];
  if (is === 'held' && order.pay_by_ms) return [order.pay_by_ms, words.t_pays];
  if ((is === 'entered' || is === 'open') && draws()) return [drawsAt(), words.t_draws];
  if (item.state === 'upcoming' && item.opens_at_ms > now()) return [item.opens_at_ms, words.t_opens];
  if (is === 'open' && item.closes_at_ms - now() < 86400000) return [item.closes_at_ms, words.t_closes];
  return null;
}

function showTime(is) {
  if (!heardOnce) return;
  const aim = goal(is);
  const clock = at('clock');
  at('timer').hidden = !aim;
  if (!aim) return;
  const left = Math.max(0, Math.ceil((aim[0] - now()) / 1000));
  put(at('timer-label'), aim[1]);
  clock.classList.add('runs');
  const two = (n) => String(n).padStart(2, '0');
  const days = Math.floor(left / 86400);
  const day = days ? `${words.u_d.replace('{n}', days)} ` : '';
  put(clock, `${day}${two(Math.floor(left / 3600) % 24)}:${two(Math.floor(left / 60) % 60)}:${two(left % 60)}`);
  at('timer').title = new Date(aim[0]).toLocaleString(lang);
}

// A duration in words: "1 min 5 s".
function span(ms) {
  const left = Math.max(1, Math.ceil(ms / 1000));
  const parts = [
    [words.u_d, Math.floor(left / 86400)], [words.u_h, Math.floor(left / 3600) % 24],
    [words.u_m, Math.floor(left / 60) % 60], [words.u_s, left % 60],
  ].filter(([, n]) => n > 0).slice(0, 2);
  return parts.map(([unit, n]) => unit.replace('{n}', n)).join(' ');
}

function say(text) {
  put(at('live'), text);
}

function remark(text, ...states) {
  aside = text || '';
  asideIn = [state(), ...states];
}

// ---- the countdown ----

const MARKS = [600, 60, 10];
let before = Infinity;
let resyncAt = 0;
let opened = false;

function tick() {
  const left = item.opens_at_ms - now();
  if (item.state === 'upcoming' && heardOnce) {
    if (left > 0) countDown(left / 1000);
    else if (!opened) {
      opened = true;
      // All pages get here at the same moment; jitter spreads their requests.
      setTimeout(poll, Math.random() * 300);
    }
  } else opened = false;
  show();
  setTimeout(tick, 1000 - (now() % 1000) + 5);
}

function countDown(left) {
  for (const mark of MARKS) {
    if (before > mark && left <= mark && before !== Infinity) say(words.n_early.replace('{t}', span(mark * 1000)));
  }
  // About a minute before the opening, each page at its own random moment.
  if (before > 80 && left <= 80 && before !== Infinity) resyncAt = 60 + Math.random() * 20;
  if (resyncAt && left <= resyncAt) {
    resyncAt = 0;
    synchronise();
  }
  before = left;
}

// ---- buying ----

function enter(next, word = '') {
  phase = next;
  remark(word);
  show();
}

async function press() {
  const is = state();
  if (is === 'upcoming') {
    remark(words.n_early.replace('{t}', span(item.opens_at_ms - now())));
    show();
    say(aside);
  } else if (is === 'challenge') await solve(at('answer').value.trim());
  else if (is === 'open') await purchase();
  else say(`${buttonText(is)}. ${noteText(is)}`);
}

// Tries until there is a final response. Never two at a time.
async function purchase(solution) {
  if (running) return;
  running = true;
  bought = true;
  try {
    let tries = 0;
    let renewed = false;
    let signed = false;
    while (bought) {
      enter('sending');
      const answer = await step(solution);
      solution = undefined;
      reached(answer.status !== 0);
      if (answer.again === undefined) return;
      if ([200, 201, 202].includes(answer.status)) { await done(answer); return; }
      if (answer.code === 'ticket_required') item.ticket_required = true;
      if (answer.code.startsWith('ticket_') && !renewed) { renewed = true; ticket = null; continue; }
      if (answer.status === 401 && demo && !signed) { signed = true; if (await signIn()) continue; }
      const wait = await refused(answer, tries);
      tries += 1;
      if (wait < 0) return;
      await restOrOnline(wait);
    }
  } finally {
    running = false;
    if (phase === 'sending') enter('', aside);
    schedule(around(1000));
  }
}

// Gets a ticket if the item needs one, then orders. Returns the response that decides.
async function step(solution) {
  if (item.ticket_required && !(ticket && ticket.expires_at_ms > now() + 500)) {
    const answer = await ask('POST', `/v1/items/${id}/ticket`, solution || {});
    if (answer.status !== 201) {
      if (answer.code.startsWith('challenge_')) return pose(answer.code === 'challenge_failed' ? words.challenge_again : '');
      return answer;
    }
    ticket = answer.body;
  }
  const body = ticket ? { quantity: 1, ticket: ticket.ticket } : { quantity: 1 };
  return ask('POST', `/v1/items/${id}/orders`, body, { 'Idempotency-Key': key() });
}

async function done(answer) {
  // A replayed response shows the order as it was at the first try.
  if (answer.replay && (await readOrder(answer.body.order_id))) return;
  take(answer.body);
}

// The demo makes up one buyer, even if several tabs and requests find at once that there is none.
let signing = null;
function signIn() {
  const once = async () => {
    if ((await ask('GET', '/v1/orders?limit=1')).status === 200) return true;
    return (await ask('POST', '/v1/demo/session', {})).status === 201;
  };
  const alone = () => (navigator.locks ? navigator.locks.request('stampede-session', once) : once());
  signing = signing || alone().finally(() => { signing = null; });
  return signing;
}

// How long to wait before the next try, in ms; below zero: do not try again.
async function refused(answer, tries) {
  const settle = (word = '') => { bought = false; enter('', word); return -1; };
  const { status, code, body } = answer;
  if (status === 429) return limit(answer, tries);
  if (status === 0 || status >= 500 || code === 'idempotency_key_running') {
    if (tries >= TRIES_MAX && !offline) return settle(words.n_failed);
    enter('waiting');
    return Math.max(answer.again, backoff(tries));
  }
  if (status === 401) signedOut = true;
  else if (code === 'not_eligible') notEligible = true;
  else if (code === 'sold_out') { item = { ...item, state: 'sold_out', stock_band: 'none' }; }
  else if (code === 'ended' || code === 'paused') item = { ...item, state: code };
  else if (code === 'not_open') return early(body.opens_in_ms || 0, settle);
  else if (code === 'cap_reached' && body.order_id) {
    settle();
    await readOrder(body.order_id);
    return -1;
  } else if (code === 'idempotency_key_reused') { forget(); return settle(words.n_failed); }
  else return settle(words.n_failed);
  return settle();
}

function limit(answer, tries) {
  const wait = Math.max(answer.again, 1000) + backoff(tries) / 2;
  until = now() + wait;
  enter('limited');
  return wait;
}

// The server says that it is too early: our clock was wrong, or the shop moved the sale.
function early(opensIn, settle) {
  item = { ...item, state: 'upcoming', opens_at_ms: Math.round(now() + opensIn) };
  opened = false;
  if (opensIn > 2000) {
    synchronise();
    return settle(words.n_early.replace('{t}', span(opensIn)));
  }
  enter('waiting', words.n_opening);
  return opensIn + Math.random() * 300;
}

let wake = () => {};
function restOrOnline(ms) {
  if (!offline) return pause(ms);
  return Promise.race([pause(Math.max(ms, 5000)), new Promise((back) => { wake = back; })]);
}

// ---- the challenge ----

async function pose(word) {
  const answer = await ask('GET', `/v1/items/${id}/challenge`);
  if (answer.status !== 200) return answer;
  challenge = answer.body;
  // As an image: no script runs in it.
  at('drawing').src = `data:image/svg+xml,${encodeURIComponent(challenge.svg)}`;
  at('answer').value = '';
  at('pow').hidden = !(challenge.pow && crypto.subtle);
  at('pow').removeAttribute('aria-disabled');
  bought = false;
  enter('challenge', word);
  at('answer').focus();
  return { status: 403, code: '', body: {} };
}

async function solve(answer) {
  if (!challenge || answer === '') {
    at('answer').focus();
    return;
  }
  const solution = { challenge: challenge.challenge, answer: String(answer) };
  challenge = null;
  button.focus();
  await purchase(solution);
}

// The proof of work: looks for a number so that SHA-256 of `challenge:number` begins with enough zero bits.
async function work() {
  const own = challenge;
  if (!own || at('pow').getAttribute('aria-disabled')) return;
  at('pow').setAttribute('aria-disabled', 'true');
  const bits = own.pow.bits;
  const encoder = new TextEncoder();
  const hash = (n) => crypto.subtle.digest('SHA-256', encoder.encode(`${own.challenge}:${n}`));
  const fits = (bytes) => {
    const view = new DataView(bytes);
    const zeros = Math.clz32(view.getUint32(0));
    return (zeros === 32 ? 32 + Math.clz32(view.getUint32(4)) : zeros) >= bits;
  };
  for (let from = 0; challenge === own; from += 512) {
    const hashes = await Promise.all(Array.from({ length: 512 }, (_, n) => hash(from + n)));
    const found = hashes.findIndex(fits);
    if (found >= 0) { await solve(String(from + found)); return; }
    // The probability of having found one by now.
    const percent = Math.floor(100 * (1 - Math.exp(-from / 2 ** bits)));
    if (from % 4096 === 0) { remark(words.pow_busy.replace('{n}', percent)); show(); await pause(0); }
  }
}

// ---- the order's buttons ----

async function move(path) {
  const answer = await ask('POST', path, {});
  reached(answer.status !== 0);
  if (answer.status === 200) take(answer.body);
  else if (order && !(await readOrder(order.order_id))) { remark(words.n_failed); show(); }
}

let moving = false;
function onMove(element, path) {
  element.addEventListener('click', async () => {
    if (moving || !order) return;
    moving = true;
    // A button that disappears would lose the focus.
    try { await move(path(order.order_id)); } finally { moving = false; }
    if (element.hidden || at('order').hidden) button.focus();
  });
}

// ---- events ----

at('form').addEventListener('submit', (event) => { event.preventDefault(); press(); });
at('pow').addEventListener('click', work);
onMove(at('pay'), (which) => `/v1/demo/orders/${which}/pay`);
onMove(at('cancel'), (which) => `/v1/orders/${which}/cancel`);

addEventListener('offline', () => { offline = true; show(); });
addEventListener('online', async () => {
  offline = false;
  misses = 0;
  show();
  wake();
  await pause(Math.random() * 500);
  follow();
  await poll();
  synchronise();
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    clearTimeout(pollTimer);
    clearTimeout(orderTimer);
    return;
  }
  signedOut = false;
  setTimeout(poll, Math.random() * 300);
  follow();
  synchronise();
});
// Another tab of the same buyer has placed an order.
addEventListener('storage', (event) => {
  const theirs = event.key === PLACE ? stored().order : '';
  if (theirs && !(order && order.order_id === theirs)) readOrder(theirs);
});

key();
show();
tick();
poll().then(findOrder).then(synchronise);
