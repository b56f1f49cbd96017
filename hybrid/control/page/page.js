// The page: hears the server's events, and shows them. Whatever the server says becomes text, never markup.
import * as charts from "./charts.js";
import { DASH, LIVES, bytes, clock, eventInWords, inputInWords, number, percent, poolInWords, seconds, span, whole } from "./words.js";

const $ = (id) => document.getElementById(id);
const HIDDEN_MS = 20_000; // a page that nobody sees is not kept up to date for longer
const SILENT_MS = 5_000; // snapshots come every second
const MOST_EVENTS = 200;

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mood(node, name) {
  if (node.dataset.mood !== name) node.dataset.mood = name;
}

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

// ── the size, and why ──

function showSize(snapshot) {
  const { pool, totals, sizing } = snapshot;
  put($("ready"), whole(totals.ready));
  const wanted = pool.target && pool.target !== totals.ready ? `, wants ${pool.target}` : "";
  const standby = pool.standby ? `, ${pool.standby} on standby` : "";
  put($("bounds"), sizing.on ? `workers of ${pool.least}..${pool.most}${wanted}${standby}`
    : `of ${pool.target || DASH} workers, a fixed size${standby}`);
  showCells(snapshot);
  const why = sizing.last;
  if (!why) {
    put($("why-head"), sizing.on ? "No decision to change it yet" : "Why so many");
    put($("why"), pool.size_reason || "no reason is known");
    $("inputs").replaceChildren();
    return;
  }
  const way = why.target > why.before ? "Grew" : why.target < why.before ? "Shrank" : "Stayed";
  put($("why-head"), `${way} ${why.before} → ${why.target}, ${span(snapshot.now - why.at)} ago`);
  put($("why"), why.reason);
  showInputs(why);
}

let inputsOf = 0;

function showInputs(why) {
  if (inputsOf === why.at) return;
  inputsOf = why.at;
  const chips = Object.entries(why.inputs).map(([name, value]) => inputInWords(name, value)).filter(Boolean);
  $("inputs").replaceChildren(...chips.map(([name, value]) => make("li", "", `${name} `, make("b", "", value))));
}

// One cell for each place up to the largest size; filled as far as the worker's loop is used.
function showCells({ workers, pool, totals, sizing }) {
  const places = Math.max(workers.length, sizing.on ? pool.most : pool.target);
  const box = $("cells");
  box.classList.toggle("many", places > 16);
  while (box.children.length > places) box.lastChild.remove();
  while (box.children.length < places) box.append(make("span", "cell", make("i", "")));
  for (let at = 0; at < places; at += 1) {
    const cell = box.children[at];
    const worker = workers[at];
    mood(cell, worker ? worker.life : "free");
    cell.title = worker ? `seat ${worker.seat}: ${worker.life}, loop use ${percent(worker.loop_use)}` : "free";
    cell.firstChild.style.height = `${Math.round((worker?.loop_use ?? 0) * 100)}%`;
  }
  box.setAttribute("aria-label", `${totals.ready} of ${places} places serve`);
}

// ── figures ──

function figure(id, big, sub, name = "") {
  const box = $(id);
  put(box.querySelector(".big"), big);
  put(box.querySelector(".sub"), sub);
  mood(box, name);
}

function level(value, warn, bad) {
  return value === null || value < warn ? "" : value < bad ? "warn" : "bad";
}

function showFigures({ totals, workers }, counts) {
  const errors = totals.errors_per_s ? `, ${number(totals.errors_per_s)} errors/s` : "";
  if (counts) figure("f-rate", number(totals.requests_per_s), `${number(totals.accepted_per_s)} new connections/s${errors}`);
  else figure("f-rate", number(totals.accepted_per_s), `accepted${errors}`);
  const even = totals.balance === null ? "" : `balance ${percent(totals.balance)}`;
  figure("f-connections", whole(totals.connections), even || "open now");
  const waits = totals.run_queue === null ? "" : `waits for a CPU ${percent(totals.run_queue)}`;
  figure("f-use", percent(totals.loop_use), waits, level(totals.loop_use, 0.8, 0.95));
  const wait = totals.accept_queue ? `wait about ${seconds(totals.accept_wait_s)}` : "nobody waits";
  const limit = totals.accept_queue_limit ? ` of ${whole(totals.accept_queue_limit)}` : "";
  const queue = totals.accept_queue;
  figure("f-queue", whole(queue), queue === null ? "unknown" : `${wait}${queue ? limit : ""}`,
    level(queue, 1, Math.max(2, (totals.accept_queue_limit ?? 0) / 2)));
  figure("f-lag", seconds(totals.lag_s), "worst worker, last second", level(totals.lag_s, 0.1, 1));
  const each = totals.memory_bytes === null ? "private" : `private, ${bytes(totals.memory_bytes / Math.max(1, workers.length))} each`;
  figure("f-memory", bytes(totals.memory_bytes), each);
}

// ── workers ──

const rows = new Map();

function makeRow() {
  const cell = (name, ...children) => make("td", name, ...children);
  const bar = () => make("span", "bar", make("i", "use"), make("i", "waits"));
  const state = make("span", "life");
  const use = [bar(), make("span", "n")];
  const held = [bar(), make("span", "n")];
  const row = { use, held, state };
  row.seat = make("th", "c-seat");
  row.seat.scope = "row";
  row.rate = cell("c-rate");
  row.lag = cell("c-lag");
  row.memory = cell("c-memory");
  row.age = cell("c-age");
  row.pid = cell("c-pid");
  row.node = make("tr", "", row.seat, cell("c-state", state), cell("c-use", ...use), cell("c-connections", ...held),
    row.rate, row.lag, row.memory, row.age, row.pid);
  return row;
}

function fill(bar, first, second = 0) {
  bar.children[0].style.width = `${Math.round(Math.min(1, first) * 100)}%`;
  bar.children[1].style.width = `${Math.round(Math.min(1 - Math.min(1, first), second) * 100)}%`;
}

function showRow(row, worker, most, counts) {
  let [sign, text, name] = LIVES[worker.life] || ["?", worker.life, "warn"];
  const stuck = worker.life !== "starting" && worker.heartbeat_age_s > 2;
  if (stuck) [sign, text, name] = ["!", `blocked for ${span(worker.heartbeat_age_s)}`, "bad"];
  put(row.seat, String(worker.seat));
  row.seat.title = `slot ${worker.slot}, generation ${worker.generation}`;
  put(row.state, `${sign} ${text}`);
  mood(row.state, name);
  fill(row.use[0], Math.max(0, (worker.loop_use ?? 0) - (worker.run_queue ?? 0)), worker.run_queue ?? 0);
  put(row.use[1], percent(worker.loop_use));
  mood(row.use[0], level(worker.loop_use, 0.8, 0.95));
  row.use[0].title = `waits for a CPU ${percent(worker.run_queue)}`;
  fill(row.held[0], most ? worker.connections / most : 0);
  put(row.held[1], whole(worker.connections));
  put(row.rate, number(counts ? worker.requests_per_s : worker.accepted_per_s));
  put(row.lag, seconds(worker.lag_s));
  mood(row.lag, level(worker.lag_s, 0.1, 1));
  put(row.memory, bytes(worker.memory_bytes));
  put(row.age, span(worker.age_s));
  put(row.pid, String(worker.pid));
}

function showWorkers({ workers, totals }, counts) {
  const most = Math.max(...workers.map((worker) => worker.connections), 0);
  const seen = new Set();
  const body = $("rows");
  workers.forEach((worker, at) => {
    const key = `${worker.slot}:${worker.pid}`;
    seen.add(key);
    if (!rows.has(key)) rows.set(key, makeRow());
    const row = rows.get(key);
    if (body.children[at] !== row.node) body.insertBefore(row.node, body.children[at] || null);
    showRow(row, worker, most, counts);
  });
  for (const [key, row] of rows) if (!seen.has(key)) { row.node.remove(); rows.delete(key); }
  const even = totals.balance === null ? "" : `, connections ${percent(totals.balance)} balanced`;
  const others = workers.length - totals.ready;
  put($("workers-sub"), `${totals.ready} serve${others ? `, ${others} more that do not accept` : ""}${even}`);
}

// ── events ──

let shown = "all";
const known = new Set();

function showNotices(notices) {
  for (const event of notices) {
    const key = `${event.number} ${event.at}`;
    if (known.has(key)) continue;
    known.add(key);
    if (event.kind === "resized") charts.takeResize(event);
    const words = eventInWords(event);
    const line = make("p", "", make("span", "sign", words.sign), " ", words.text);
    line.firstChild.setAttribute("aria-hidden", "true");
    const item = make("li", "", make("time", "quiet", clock(event.at)), line);
    item.dataset.group = words.group;
    item.dataset.mood = words.mood;
    item.hidden = shown !== "all" && shown !== words.group;
    if (event.kind === "resized") item.append(inputsOfEvent(event));
    if (words.detail) item.append(make("details", "", make("summary", "", "detail"), make("pre", "", words.detail)));
    $("events").prepend(item);
  }
  while ($("events").children.length > MOST_EVENTS) $("events").lastChild.remove();
  $("no-events").hidden = Boolean($("events").querySelector("li:not([hidden])"));
}

function inputsOfEvent(event) {
  const texts = Object.entries(event.inputs).map(([name, value]) => inputInWords(name, value)).filter(Boolean);
  return make("p", "quiet with", texts.map(([name, value]) => `${name} ${value}`).join(" · "));
}

document.querySelector(".choice").addEventListener("click", ({ target }) => {
  if (!target.dataset.show) return;
  shown = target.dataset.show;
  for (const button of document.querySelectorAll(".choice button")) button.setAttribute("aria-pressed", String(button === target));
  for (const item of $("events").children) item.hidden = shown !== "all" && shown !== item.dataset.group;
  $("no-events").hidden = Boolean($("events").querySelector("li:not([hidden])"));
});

// ── all of it ──

let latest = null;

function show(snapshot) {
  latest = snapshot;
  const { pool, totals, parent } = snapshot;
  const counts = pool.kind === "asgi" || pool.kind === "wsgi" || totals.requests_per_s > 0;
  if (charts.countRequests(counts)) {
    put($("f-rate").querySelector("h2"), counts ? "Requests/s" : "Connections/s");
    put($("rate-head"), counts ? "Requests/s" : "Accepts/s");
  }
  charts.setMost(Math.max(pool.most, pool.target));
  put($("app"), pool.app || "hybrid");
  put($("kind"), pool.kind);
  put($("addresses"), pool.addresses.join("  "));
  const [sign, text, name] = poolInWords(pool, totals);
  put($("state"), `${sign} ${text}`);
  mood($("state"), name);
  $("state").title = pool.reload.failure;
  put($("generation"), `generation ${pool.generation}`);
  put($("uptime"), `up ${span(parent.uptime_s)}`);
  put($("version"), `hybrid ${snapshot.version}`);
  put($("pid"), String(parent.pid));
  const replaced = Object.entries(totals.replaced).filter(([, count]) => count);
  put($("replaced"), replaced.length ? `replaced: ${replaced.map(([cause, count]) => `${count} ${cause}`).join(", ")}` : "no worker was replaced");
  showSize(snapshot);
  showFigures(snapshot, counts);
  showWorkers(snapshot, counts);
  charts.takeSnapshot(snapshot);
  document.title = `${totals.ready} · ${number(counts ? totals.requests_per_s : totals.accepted_per_s)}/s · ${pool.app || "hybrid"}`;
}

// ── the link to the server ──

let source = null;
let heard = 0;
let tried = 0;
let lostSince = 0;

function link(name) {
  document.body.dataset.link = name;
  const lost = name === "lost";
  if (lost && !lostSince) lostSince = heard || Date.now();
  if (!lost) lostSince = 0;
  $("banner").hidden = !lost;
  if (!lost) put($("seen"), name === "live" ? "live" : "connecting");
}

function open() {
  source?.close();
  tried = Date.now();
  source = new EventSource("events");
  const on = (name, take) => source.addEventListener(name, ({ data }) => { heard = Date.now(); link("live"); take(JSON.parse(data)); });
  on("past", charts.takePast);
  on("notices", showNotices);
  on("snapshot", show);
  source.addEventListener("error", () => link("lost"));
}

function close() {
  source?.close();
  source = null;
}

// A browser gives up after some answers, such as a proxy's 502: we do not.
function look() {
  if (!source) return;
  const silent = Date.now() - heard;
  if (document.body.dataset.link === "live" && silent > SILENT_MS) link("lost");
  if (document.body.dataset.link !== "lost") return;
  if (source.readyState === EventSource.CLOSED || Date.now() - tried > 4 * SILENT_MS) open();
  put($("seen"), "no answer");
  document.title = `no answer · ${latest?.pool.app || "hybrid"}`;
  put($("banner"), latest
    ? `The server has not answered for ${span((Date.now() - lostSince) / 1000)}. What you see is from ${clock(latest.now)}. Trying again.`
    : "The server does not answer. Trying again.");
}

let hiding = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(close, HIDDEN_MS);
  else if (!source) open();
});

charts.open($("charts"));
open();
setInterval(look, 1000);
