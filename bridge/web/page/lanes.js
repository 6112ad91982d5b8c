// Lanes drawn over time: what was sent, what was withheld and why, where words are. Colour never stands alone: each
// cause has its own pattern, and stretches that are long enough carry their name.

const dark = matchMedia("(prefers-color-scheme: dark)");
let colours = null;

export function palette() {
  if (!colours) {
    const style = getComputedStyle(document.documentElement);
    const names = ["open", "words", "silence", "hold", "mute", "music", "tone", "paused", "lane", "text", "soft", "card", "line"];
    colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }
  return colours;
}
dark.addEventListener("change", () => { colours = null; });

const tiles = new Map();

function pattern(context, kind, colour) {
  const key = `${kind}${colour}${devicePixelRatio}`;
  if (!tiles.has(key)) {
    const size = kind === "hold" ? 8 : 6, tile = new OffscreenCanvas(size, size), c = tile.getContext("2d");
    c.strokeStyle = c.fillStyle = colour;
    if (kind === "hold") {
      c.lineWidth = 2.6;
      for (const x of [-8, 0, 8]) { c.beginPath(); c.moveTo(x - 1, 9); c.lineTo(x + 9, -1); c.stroke(); }
    } else if (kind === "mute") {
      c.beginPath(); c.arc(3, 3, 1.3, 0, 7); c.fill();
    } else c.fillRect(0, 0, 2, size);
    tiles.set(key, tile);
  }
  return context.createPattern(tiles.get(key), "repeat");
}

// A context in CSS pixels, sized to the element.
export function surface(canvas) {
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio || 1;
  if (!width || !height) return null;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

const LIVE_WINDOW = 120, SHORTEST = 20; // s

// From where to where a call is drawn.
export function view(call, isWhole) {
  const end = Math.max(call.time, SHORTEST);
  return { from: isWhole || call.ended ? 0 : Math.max(0, end - LIVE_WINDOW), to: end };
}

export function drawLane(canvas, leg, { from, to }, time) {
  const place = surface(canvas);
  if (!place) return;
  const { context, width, height } = place, paint = palette();
  const x = (at) => ((at - from) / (to - from)) * width;
  context.font = "600 11px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (const span of leg.spans) {
    const end = span.to === null ? time : span.to;
    if (end < from || span.from > to) continue;
    const left = x(Math.max(span.from, from)), right = x(Math.min(end, to));
    fill(context, span, left, Math.max(right - left, 1), height, paint);
  }
  context.fillStyle = paint.words;
  for (const [start, end] of leg.words) {
    if (end > from && start < to) context.fillRect(x(start), height * 0.24, Math.max(x(end) - x(start) - 0.6, 1.2), height * 0.52);
  }
  for (const span of leg.spans) name(context, span, x, { from, to, time, width, height }, paint);
  for (const { at, kind } of leg.marks) if (at >= from && at <= to) mark(context, kind, x(at), height, paint);
}

function fill(context, span, left, width, height, paint) {
  if (span.state === "open") {
    context.fillStyle = paint.open;
    context.fillRect(left, 2, width, height - 4);
  } else if (span.cause === "silence" || !span.cause) {
    context.fillStyle = paint.silence;
    context.fillRect(left, height / 2 - 1, width, 2);
  } else if (span.cause === "music" || span.cause === "paused") {
    context.fillStyle = paint[span.cause];
    context.fillRect(left, 4, width, height - 8);
  } else {
    context.fillStyle = pattern(context, span.cause, paint[span.cause]);
    context.fillRect(left, 4, width, height - 8);
  }
}

function name(context, span, x, { from, to, time, width, height }, paint) {
  if (span.state === "open" || !span.cause || span.cause === "silence") return;
  const end = span.to === null ? time : span.to;
  const left = Math.max(x(Math.max(span.from, from)), 0), right = Math.min(x(Math.min(end, to)), width);
  const text = `${span.cause} ${Math.max(0, end - span.from).toFixed(0)} s`, wide = context.measureText(text).width + 12;
  if (right - left < wide + 6) return;
  const middle = (left + right) / 2;
  context.fillStyle = paint.card;
  context.beginPath();
  context.roundRect(middle - wide / 2, height / 2 - 8, wide, 16, 5);
  context.fill();
  context.fillStyle = paint.text;
  context.textAlign = "center";
  context.fillText(text, middle, height / 2 + 0.5);
}

function mark(context, kind, at, height, paint) {
  context.fillStyle = kind === "finalize" ? paint.text : paint.paused;
  if (kind === "finalize") {
    context.beginPath(); context.moveTo(at - 3.5, 0); context.lineTo(at + 3.5, 0); context.lineTo(at, 5); context.fill();
  } else if (kind === "lost") context.fillRect(at - 1, 0, 2.5, height);
  else { context.fillRect(at - 1, 0, 2.5, height / 3); context.fillRect(at - 1, (2 * height) / 3, 2.5, height / 3); }
}

// What the lane shows at `x` CSS pixels, in words.
export function spanAt(canvas, leg, { from, to }, time, x) {
  const at = from + (x / (canvas.clientWidth || 1)) * (to - from);
  const span = leg.spans.find((s) => s.from <= at && at < (s.to === null ? time : s.to));
  if (!span) return "";
  const end = span.to === null ? time : span.to, state = span.state === "open" ? "sent" : span.cause;
  return `${state}, ${duration(Math.max(0, end - span.from))} from ${clock(span.from)}${span.reason ? `: ${span.reason}` : ""}`;
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600];

export function drawAxis(canvas, { from, to }) {
  const place = surface(canvas);
  if (!place) return;
  const { context, width, height } = place, paint = palette();
  const step = STEPS.find((s) => ((to - from) / s) * 64 < width) || 7200;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "bottom";
  context.fillStyle = paint.soft;
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    const x = ((at - from) / (to - from)) * width;
    context.textAlign = x < 16 ? "left" : x > width - 16 ? "right" : "center";
    context.fillRect(x, 0, 1, 3);
    context.fillText(clock(at), x, height);
  }
}

export function drawShare(canvas, total) {
  const place = surface(canvas);
  if (!place) return;
  const { context, width, height } = place, paint = palette();
  const parts = [["open", total.sent], ...Object.entries(total.causes)].filter(([, seconds]) => seconds > 0);
  const all = parts.reduce((sum, [, seconds]) => sum + seconds, 0);
  context.fillStyle = paint.lane;
  context.fillRect(0, 0, width, height);
  let left = 0;
  for (const [kind, seconds] of parts) {
    const wide = (seconds / all) * width;
    context.fillStyle = kind === "open" ? paint.words : paint[kind];
    context.fillRect(left, 0, Math.max(wide - 1, 0.5), height);
    left += wide;
  }
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds)), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export function duration(seconds) {
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  return seconds < 6000 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
