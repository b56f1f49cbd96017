// Numbers and events in words. Nothing here touches the page.

export const DASH = "–";

// A figure with about three digits: 7, 9.3, 48, 1,240, 15.3k, 2.1M.
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  const size = Math.abs(value);
  if (size >= 999_950) return `${(value / 1e6).toFixed(size < 9.995e6 ? 2 : 1)}M`;
  if (size >= 10_000) return `${(value / 1e3).toFixed(size < 99_950 ? 1 : 0)}k`;
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (Number.isInteger(value) || size >= 99.5) return String(Math.round(value));
  return value.toFixed(size < 0.995 ? 2 : 1).replace(/\.0+$/, "");
}

export function whole(value) {
  return value === null || value === undefined ? DASH : Math.round(value).toLocaleString("en");
}

export function percent(share) {
  if (share === null || share === undefined) return DASH;
  return `${Math.round(share * 100)} %`;
}

export function seconds(value) {
  if (value === null || value === undefined) return DASH;
  if (value <= 0) return "0 ms";
  if (value < 0.0095) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 99.5) return `${value.toFixed(1)} s`;
  return span(value);
}

// How long something has lasted: 8 s, 3 min, 2 h 5 min, 4 d 3 h.
export function span(value) {
  if (value === null || value === undefined) return DASH;
  const s = Math.max(0, Math.floor(value));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function bytes(value) {
  if (value === null || value === undefined) return DASH;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 999.5 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${value < 9.95 && at > 0 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

function sizeInWords(reason) {
  const [word, more] = reasonInWords(reason);
  return { word, more };
}

// What is to be seen of an event: which button shows it, its sign, its mood and its text.
const EVENTS = {
  logged: (e) => ({ ...logInWords(e), text: `${e.who}: ${e.text}`, detail: e.detail }),
  worker_started: (e) => ({ group: "worker", sign: "+", text: `slot ${e.slot}: a worker was started for seat ${e.seat}` }),
  worker_ready: (e) => ({ group: "worker", sign: "✓", mood: "good", text: `slot ${e.slot}: worker ${e.pid} is ready` }),
  worker_parked: (e) => ({ group: "worker", sign: "‖", text: `slot ${e.slot}: worker ${e.pid} is parked` }),
  worker_unparked: (e) => ({ group: "worker", sign: "▸", mood: "good", text: `slot ${e.slot}: worker ${e.pid} accepts again` }),
  worker_draining: (e) => ({ group: "worker", sign: "↓", text: `slot ${e.slot}: worker ${e.pid} finishes what it holds` }),
  worker_exited: (e) => ({ group: "worker", sign: "×", mood: e.cause ? "warn" : "",
    text: `slot ${e.slot}: worker ${e.pid} is gone${e.text ? ` (${e.text})` : ""}` }),
  resized: (e) => ({ group: "size", sign: e.target > e.before ? "↑" : e.target < e.before ? "↓" : "=", mood: "size",
    text: `size ${e.before} → ${e.target}`, ...sizeInWords(e.reason) }),
  reload_step: (e) => ({ group: "reload", sign: "↻", text: `reload: ${e.text || e.stage}` }),
  reload_ended: (e) => ({ group: "reload", sign: e.ok ? "✓" : "!", mood: e.ok ? "good" : "bad",
    text: e.ok ? `reload done: ${e.text}` : e.text, detail: e.detail }),
  phase_changed: (e) => ({ group: "reload", sign: "●", text: `the server is ${e.phase}` }),
};

// A line of the log. What it says of resizes is said by events of their own; of a size that was kept, by nothing else.
function logInWords({ level, text }) {
  if (/^sizing: (?!\d+ → )/.test(text)) return { group: "size", sign: "=" };
  const mood = { warning: "warn", error: "bad", critical: "bad" }[level] || "";
  return { group: "log", sign: mood ? "!" : "·", mood, minor: !mood };
}

const NOTHING = { mood: "", detail: "", word: "", more: "" };

export function eventInWords(event) {
  const words = EVENTS[event.notice];
  return words ? { ...NOTHING, ...words(event) }
    : { ...NOTHING, group: "log", sign: "·", text: String(event.notice) };
}

// Where the pool is, in one word, with a mood that colours it and a sign for whoever sees no colours.
export function poolInWords(pool, totals) {
  if (pool.phase === "stopped") return ["■", "stopped", "bad"];
  if (pool.phase === "stopping" || pool.readiness === "leaving") return ["■", "stopping", "warn"];
  if (pool.phase === "booting") return ["◌", "booting", "wait"];
  if (pool.reload.stage !== "idle") return ["↻", `reloading: ${pool.reload.stage}`, "wait"];
  if (pool.stance === "parked") return ["‖", "parked", "warn"];
  if (totals.ready === 0) return ["!", "nobody serves", "bad"];
  if (pool.reload.failure) return ["!", "serving; the last reload failed", "warn"];
  if (totals.ready < pool.target) return ["◐", "serving, not complete", "warn"];
  return ["●", "serving", "good"];
}

export const LIVES = {
  starting: ["◌", "starting", "wait"],
  ready: ["●", "serving", "good"],
  parked: ["‖", "parked", "idle"],
  draining: ["↓", "draining", "warn"],
  killing: ["×", "killed", "bad"],
};

// Inputs of a decision that say most; the others are a click away.
const FIRST_INPUTS = ["busy", "demand", "want", "serving", "waiting_share", "queue", "lag_s", "arrivals_per_s"];

// A name and a figure, as a decision has it: lag_s 0.031 is [lag, 31 ms].
function inputInWords([name, value]) {
  const words = name.replace(/(_per)?_s$|_bytes$/, "").replaceAll("_", " ");
  if (name.endsWith("_per_s")) return [words, `${number(value)}/s`];
  if (name.endsWith("_s")) return [words, seconds(value)];
  if (name.endsWith("_share")) return [words, percent(value)];
  if (name.endsWith("_bytes") || name.startsWith("memory")) return [words, bytes(value)];
  return [words, typeof value === "boolean" ? (value ? "yes" : "no") : number(value)];
}

// All inputs of a decision: [those that say most, the others], each a list of [name, figure].
export function inputsInWords(inputs) {
  const place = ([name]) => FIRST_INPUTS.indexOf(name);
  const all = Object.entries(inputs);
  const first = all.filter((each) => place(each) >= 0).sort((one, other) => place(one) - place(other));
  return [first, all.filter((each) => place(each) < 0)].map((some) => some.map(inputInWords));
}

// A reason without the sizes that stand before it: "2 → 3 workers (demand): …" is ["demand", "…"].
export function reasonInWords(reason) {
  const found = /^\d+ → \d+ workers? \((.*?)\): (.*)$/s.exec(reason);
  return found ? [found[1], found[2]] : ["", reason];
}
