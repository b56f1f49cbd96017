// The page: hears the server's events, and shows them. Whatever the server says becomes text, never markup.
import * as charts from "./charts.js";
import { DASH, LIVES, bytes, clock, eventInWords, inputsInWords, number, percent, poolInWords, reasonInWords, seconds, span, whole } from "./words.js";

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
  const noun = totals.ready === 1 ? "worker" : "workers";
  const bounds = `${pool.target >= pool.most ? "as many as are allowed" : "allowed"}: ${pool.least} to ${pool.most}`;
  put($("bounds"), sizing.on ? `${noun}${wanted}; ${bounds}${standby}`
    : `of ${pool.target || DASH} ${noun}, a fixed size${standby}`);
  showCells(snapshot);
  const why = sizing.last;
  if (!why) {
    put($("why-head"), sizing.on ? "No decision to change it yet" : "Why so many");
    put($("why"), pool.size_reason || "no reason is known");
    $("inputs").replaceChildren();
    return;
  }
  const way = why.target > why.before ? "Grew" : why.target < why.before ? "Shrank" : "Stayed";
  const [word, text] = reasonInWords(why.reason);
  const ago = snapshot.now - why.at;
  put($("why-head"), `${way} ${why.before} → ${why.target}${word ? ` (${word})` : ""}, ${ago < 1 ? "just now" : `${span(ago)} ago`}`);
  put($("why"), text);
  showInputs(why);
}

let inputsOf = 0;

function showInputs(why) {
  if (inputsOf === why.at) return;
  inputsOf = why.at;
  const [first, others] = inputsInWords(why.inputs).map((some) => some.map(([name, value]) => make("li", "", `${name} `, make("b", "", value))));
  const more = make("li", "more", make("details", "", make("summary", "", `${others.length} more`), make("ul", "chips", ...others)));
  $("inputs").replaceChildren(...first, ...(others.length ? [more] : []));
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
  const said = lifeCounts(workers, places);
  box.setAttribute("aria-label", said);
  put($("cells-sub"), said);
}

// How many are in which state: "3 serve, 2 parked, 1 place free".
function lifeCounts(workers, places) {
  const counted = Object.entries(LIVES).map(([life, [, text]]) => [workers.filter((worker) => worker.life === life).length, text]);
  const free = places - workers.length;
  if (free > 0) counted.push([free, free === 1 ? "place free" : "places free"]);
  return counted.filter(([count]) => count).map(([count, text]) => `${count} ${text}`).join(", ");
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
  mood($("f-use").querySelector(".sub"), level(totals.run_queue, 0.25, 2));
  const wait = totals.accept_queue ? `wait about ${seconds(totals.accept_wait_s)}` : "nobody waits";
  const limit = totals.accept_queue_limit ? ` of ${whole(totals.accept_queue_limit)}` : "";
  const queue = totals.accept_queue;
  const full = totals.accept_queue_limit ? queue / totals.accept_queue_limit : 0;
  figure("f-queue", `${whole(queue)}${queue ? limit : ""}`, queue === null ? "unknown" : wait,
    full >= 0.5 ? "bad" : queue >= 4 ? level(totals.accept_wait_s ?? 1, 0.05, 1) : "");
  figure("f-lag", seconds(totals.lag_s), "worst worker", level(totals.lag_s, 0.1, 1));
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
  const even = totals.balance === null ? "" : `; connections ${percent(totals.balance)} balanced`;
  put($("workers-sub"), `${lifeCounts(workers, 0) || "none"}${even}`);
}

// ── events ──

let shown = "all";
const known = new Set();

function showNotices(notices) {
  for (const event of notices) {
    const key = `${event.number} ${event.at}`;
    if (known.has(key)) continue;
    known.add(key);
    if (event.notice === "resized") charts.takeResize(event);
    const words = eventInWords(event);
    const line = make("p", "", make("span", "sign", words.sign), " ", words.text + (words.word ? `: ${words.word}` : ""));
    line.firstChild.setAttribute("aria-hidden", "true");
    const item = make("li", "", make("time", "quiet", clock(event.at)), line);
    item.dataset.group = words.group;
    item.dataset.mood = words.mood;
    item.dataset.minor = words.minor ? "yes" : "";
    item.hidden = !isShown(item);
    if (words.more) item.append(make("p", "quiet more", words.more));
    if (event.notice === "resized") item.append(make("details", "", make("summary", "", "inputs"), inputsOfEvent(event)));
    if (words.detail) item.append(make("details", "", make("summary", "", "detail"), make("pre", "", words.detail)));
    $("events").prepend(item);
  }
  while ($("events").children.length > MOST_EVENTS) $("events").lastChild.remove();
  $("no-events").hidden = Boolean($("events").querySelector("li:not([hidden])"));
}

// The log repeats in words what the other events say: of it, only what went wrong is among all.
function isShown({ dataset }) {
  return shown === "all" ? !dataset.minor : shown === dataset.group;
}

function inputsOfEvent(event) {
  return make("p", "quiet", inputsInWords(event.inputs).flat().map(([name, value]) => `${name} ${value}`).join(" · "));
}

document.querySelector(".choice").addEventListener("click", ({ target }) => {
  if (!target.dataset.show) return;
  shown = target.dataset.show;
  for (const button of document.querySelectorAll(".choice button")) button.setAttribute("aria-pressed", String(button === target));
  for (const item of $("events").children) item.hidden = !isShown(item);
  $("no-events").hidden = Boolean($("events").querySelector("li:not([hidden])"));
});

// ── all of it ──

let latest = null;

function show(snapshot) {
  latest = snapshot;
  const { pool, totals, parent } = snapshot;
  const counts = /^(asgi|wsgi)/i.test(pool.kind) || totals.requests_per_s > 0;
  if (charts.countRequests(counts)) {
    put($("f-rate").querySelector("h2"), counts ? "Requests/s" : "Connections/s");
    put($("rate-head"), counts ? "Requests/s" : "Accepts/s");
    put($("rate-head-short"), counts ? "Req/s" : "Acc/s");
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

function link(name) {
  document.body.dataset.link = name;
  const lost = name === "lost";
  $("banner").hidden = !lost;
  if (lost) put($("banner"), latest ? `The server does not answer. What you see is from ${clock(latest.now)}. Trying again.`
    : "The server does not answer. Trying again.");
  put($("seen"), lost ? "no answer" : name === "live" ? "live" : "connecting");
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
  document.title = `no answer · ${latest?.pool.app || "hybrid"}`;
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
