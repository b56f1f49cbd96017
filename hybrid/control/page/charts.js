// The charts of the last minutes: uPlot draws them, and this file keeps their points.
/* global uPlot */
import { DASH, clock, number, percent, seconds, whole } from "./words.js";

const SPAN_S = 600; // what the server keeps, and we
const LEAST_S = 120; // a young server is not shown in a corner of an empty chart
const GAP_S = 6; // between two points: nobody looked, and no line is drawn

const CHARTS = [
  { key: "size", title: "Size", unit: whole, lines: [["ready", "ready", "area step"], ["target", "wanted", "dash step"]], least: 2 },
  { key: "rate", title: "Requests/s", unit: number, lines: [["rate", "", "area"]], least: 1 },
  { key: "use", title: "Loop use", unit: percent, lines: [["loop_use", "busy", "area"], ["run_queue", "waits for a CPU", "dash"]], fixed: 1 },
  { key: "connections", title: "Connections", unit: whole, lines: [["connections", "", "area"]], least: 4 },
  { key: "queue", title: "Accept queue", unit: whole, lines: [["accept_queue", "", "area"]], least: 4 },
  { key: "lag", title: "Loop lag, worst", unit: seconds, lines: [["lag_s", "", "area"]], least: 0.02 },
];
const COLUMNS = ["now", ...new Set(CHARTS.flatMap((chart) => chart.lines.map((line) => line[0])))];

const points = Object.fromEntries(COLUMNS.map((name) => [name, []]));
let drawn = [];
let resizes = []; // [at, grew] of every decision that is known
let rateTitle = "Requests/s";
let rateColumn = "requests_per_s";

function last() {
  const x = points.now;
  return x.length ? x[x.length - 1] : Date.now() / 1000;
}

function first() {
  const x = points.now;
  return x.length ? Math.max(last() - SPAN_S, Math.min(x[0], last() - LEAST_S)) : last() - LEAST_S;
}

function add(point) {
  if (points.now.length && point.now <= last()) return;
  if (points.now.length && point.now - last() > GAP_S) {
    for (const name of COLUMNS) points[name].push(name === "now" ? last() + 1 : null);
  }
  for (const name of COLUMNS) points[name].push(point[name] ?? null);
}

function forget() {
  const oldest = last() - SPAN_S - 10;
  const gone = points.now.findIndex((at) => at >= oldest);
  if (gone > 0) for (const name of COLUMNS) points[name].splice(0, gone);
}

// Take in what the server remembers: it fills what we missed, and what we have from before stays.
export function takePast(past) {
  const rows = past.rows.map((row) => Object.fromEntries(past.columns.map((name, at) => [name, row[at]])));
  const begins = rows.length ? rows[0].now : Infinity;
  const kept = points.now.findIndex((at) => at >= begins);
  if (kept >= 0) for (const name of COLUMNS) points[name].splice(kept);
  for (const row of rows) add({ ...row, rate: row[rateColumn] });
  forget();
  draw();
}

export function takeSnapshot(snapshot) {
  const rate = snapshot.totals[rateColumn];
  add({ ...snapshot.totals, now: snapshot.now, target: snapshot.pool.target || null, rate });
  forget();
  draw();
}

export function takeResize(event) {
  resizes.push([event.at, event.target > event.before]);
  resizes = resizes.slice(-200);
}

// Which counter the rate is of: HTTP has requests, other protocols have connections.
export function countRequests(counts) {
  const column = counts ? "requests_per_s" : "accepted_per_s";
  rateTitle = counts ? "Requests/s" : "Connections/s";
  if (column === rateColumn) return false;
  rateColumn = column;
  for (const chart of drawn) if (chart.spec.key === "rate") chart.title.textContent = rateTitle;
  return true;
}

// The size chart reaches up to the largest size allowed.
export function setMost(most) {
  CHARTS[0].least = Math.max(2, most);
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { line: of("--chart"), fill: of("--chart-fill"), second: of("--chart-2"), grid: of("--grid"), text: of("--quiet"),
    up: of("--good"), down: of("--warn") };
}

function series([, label, look], paint) {
  const dash = look.includes("dash");
  return {
    label,
    stroke: dash ? paint.second : paint.line,
    width: 1.6,
    dash: dash ? [4, 3] : undefined,
    fill: look.includes("area") ? paint.fill : undefined,
    paths: look.includes("step") ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear(),
    points: { show: false },
  };
}

function options(spec, { width, height }, paint, show) {
  const font = "11px system-ui, sans-serif";
  const axis = { stroke: paint.text, font, grid: { stroke: paint.grid, width: 1 }, ticks: { show: false } };
  return {
    width,
    height,
    padding: [8, 6, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "page" }, y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: true, range: () => [first(), last()] },
      y: { range: (_u, _low, high) => [0, spec.fixed ?? Math.max(spec.least, (high ?? 0) * 1.08)] },
    },
    axes: [
      { ...axis, size: 22, gap: 2, space: 70, grid: { show: false },
        values: (_u, marks) => marks.map((at) => (last() - at < (last() - first()) * 0.06 ? "" : clock(at).slice(0, 5))),
        incrs: [60, 120, 300] },
      { ...axis, size: 46, gap: 4, space: 22, values: (_u, marks) => marks.map((mark) => spec.unit(mark)),
        ...(spec.unit === whole ? { incrs: [1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5] } : {}) },
    ],
    series: [{}, ...spec.lines.map((line) => series(line, paint))],
    hooks: { setCursor: [show], draw: spec.key === "size" ? [(u) => marks(u, paint)] : [] },
  };
}

// A mark at every decision: up or down.
function marks(u, paint) {
  const { ctx } = u;
  const { top, height } = u.bbox;
  ctx.save();
  for (const [at, grew] of resizes) {
    if (at < first() || at > last()) continue;
    const x = Math.round(u.valToPos(at, "x", true));
    const s = 4 * devicePixelRatio;
    const y = top + height - (grew ? s + 1 : 3 * s + 1); // who came and went in a moment has both
    ctx.fillStyle = grew ? paint.up : paint.down;
    ctx.beginPath();
    ctx.moveTo(x - s, grew ? y + s : y);
    ctx.lineTo(x + s, grew ? y + s : y);
    ctx.lineTo(x, grew ? y - s * 0.6 : y + s * 1.6);
    ctx.fill();
  }
  ctx.restore();
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text) made.textContent = text;
  return made;
}

function value(spec, line, at) {
  const known = points[line[0]];
  const text = known.length ? spec.unit(known[at]) : DASH;
  return line[1] ? `${line[1]} ${text}` : text;
}

function build(place, spec) {
  const card = element("figure", "card chart");
  const caption = element("figcaption", "");
  const title = element("span", "chart-title", spec.key === "rate" ? rateTitle : spec.title);
  const time = element("span", "quiet chart-time");
  caption.append(title, time);
  const values = spec.lines.map((line) => caption.appendChild(element("span", line[2].includes("dash") ? "value dash" : "value")));
  const canvas = element("div", "canvas");
  canvas.setAttribute("role", "img");
  card.append(caption, canvas);
  place.append(card);
  const chart = { spec, title, canvas, time, values, plot: null };
  chart.say = (u) => {
    const at = u?.cursor.idx ?? null;
    const index = at === null ? points.now.length - 1 : at;
    const texts = spec.lines.map((line) => value(spec, line, index));
    texts.forEach((text, n) => { if (values[n].textContent !== text) values[n].textContent = text; });
    const moment = at === null || !points.now.length ? "" : clock(points.now[at]);
    if (time.textContent !== moment) time.textContent = moment;
    if (at === null) canvas.setAttribute("aria-label", `${title.textContent}, now ${texts.join(", ")}`);
  };
  return chart;
}

function data(spec) {
  return [points.now, ...spec.lines.map((line) => points[line[0]])];
}

function size({ canvas }) {
  return { width: Math.max(120, Math.floor(canvas.clientWidth)), height: Math.max(60, Math.floor(canvas.clientHeight)) };
}

function plot(chart) {
  chart.plot?.destroy();
  chart.plot = new uPlot(options(chart.spec, size(chart), colours(), (u) => chart.say(u)), data(chart.spec), chart.canvas);
  chart.say(chart.plot);
}

export function open(place) {
  drawn = CHARTS.map((spec) => build(place, spec));
  drawn.forEach(plot);
  new ResizeObserver(() => {
    for (const chart of drawn) {
      const { width, height } = size(chart);
      if (width !== chart.plot.width || height !== chart.plot.height) chart.plot.setSize({ width, height });
    }
  }).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(plot));
}

function draw() {
  for (const chart of drawn) {
    chart.plot.setData(data(chart.spec));
    chart.say(chart.plot);
  }
}
