// The console: reads the API, keeps one model per call, draws what is visible.

import { Refused, follow, json, request, setToken, stored } from "./api.js";
import { Card } from "./card.js";
import { drawShare, duration } from "./lanes.js";
import { Call, CAUSES, sums } from "./model.js";
import { Microphone } from "./whip.js";

const $ = (id) => document.getElementById(id);
const KEEP_ENDED_MS = 60_000, FRAME_MS = 250, LOADS = 4;

const live = new Map(), past = new Map(); // call id to {call, card}
const mine = new Set();
let config = { price_per_hour: 0, needs_token: false }, tab = "live", needle = "", microphone = null;

// -- what is drawn ---------------------------------------------------------------------------------------------------

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const entry = live.get(target.dataset.call) || past.get(target.dataset.call);
    if (!entry) continue;
    entry.card.isVisible = isIntersecting;
    if (isIntersecting) { wantStored(entry); entry.card.draw(); }
  }
}, { rootMargin: "200px" });

function makeEntry(call) {
  const entry = { call, card: new Card(call, { act, end, join, price: config.price_per_hour, isMine: mine.has(call.id) }) };
  entry.card.root.dataset.call = call.id;
  seen.observe(entry.card.root);
  return entry;
}

function entryOf(id) {
  if (!live.has(id)) {
    const entry = makeEntry(new Call(id));
    live.set(id, entry);
    if (tab === "live") {
      mine.has(id) ? $("calls").prepend(entry.card.root) : $("calls").append(entry.card.root);
      entry.card.root.hidden = !entry.card.matches(needle);
    }
  }
  return live.get(id);
}

function drop(id) {
  const entry = live.get(id);
  live.delete(id);
  seen.unobserve(entry.card.root);
  entry.card.root.remove();
}

function draw() {
  const shown = tab === "live" ? live : past;
  for (const { card } of shown.values()) card.draw();
}

function money(seconds) {
  const sum = (seconds / 3600) * config.price_per_hour;
  return sum.toFixed(sum < 10 ? 3 : 2);
}

function drawTotals() {
  const calls = [...(tab === "live" ? live : past).values()].map((entry) => entry.call), total = sums(calls);
  const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
  set("t-calls", String(tab === "live" ? calls.filter((call) => !call.ended).length : calls.length));
  set("t-received", duration(total.received));
  set("t-sent", duration(total.sent));
  set("t-withheld", duration(total.withheld));
  set("t-spent", money(total.billable));
  set("t-money", money(total.spared));
  const parts = CAUSES.filter((cause) => total.causes[cause] > 0).map((cause) => `${cause} ${duration(total.causes[cause])}`);
  $("t-bar").setAttribute("aria-label", total.received ? `Sent ${duration(total.sent)}, withheld: ${parts.join(", ") || "none"}` : "Nothing received yet");
  drawShare($("t-bar"), total);
  $("empty").hidden = calls.length > 0;
  $("empty").textContent = tab === "live" ? "No calls now. They appear here as they come in." : "No finished calls are stored.";
}

// -- what is read ----------------------------------------------------------------------------------------------------

const waiting = [];
let loading = 0;

function wantStored(entry) {
  if (entry.call.isLoaded || entry.isAsked) return;
  entry.isAsked = true;
  waiting.push(entry);
  loadNext();
}

async function loadNext() {
  if (loading >= LOADS || !waiting.length) return;
  const entry = waiting.shift(), events = [];
  loading++;
  try {
    for await (const event of stored(entry.call.id)) events.push(event);
  } catch { /* the live events go on without their past */ }
  entry.call.load(events);
  entry.card.draw();
  loading--;
  loadNext();
}

function take(event) {
  const { call } = entryOf(event.call);
  call.apply(event);
  if (event.type === "call.ended") {
    setTimeout(() => live.has(event.call) && drop(event.call), KEEP_ENDED_MS);
    if (microphone && microphone.call === event.call) hangUp();
  }
}

async function poll() {
  try {
    const [{ calls }, status] = await Promise.all([json("/v1/calls"), json("/v1/status")]);
    const now = new Set(calls.map((told) => told.id));
    for (const told of calls) entryOf(told.id).call.snapshot(told);
    for (const [id, { call }] of live) if (!now.has(id) && !call.ended && call.isLoaded && ++call.missed > 3) drop(id);
    say(status.is_draining ? "busy" : "good", `${status.is_draining ? "Draining" : "Ready"}, ${status.legs} of ${status.max_legs} legs`);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return askToken("");
    say("bad", "The bridge does not answer");
  }
  drawTotals();
  setTimeout(poll, Math.max(1500, live.size * 25));
}

function say(kind, text) {
  $("status").className = `status ${kind}`;
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
}

async function showPast() {
  const { calls } = await json("/v1/calls?state=ended&limit=50");
  if (tab !== "ended") return;
  for (const told of calls) {
    if (past.has(told.id)) continue;
    const entry = makeEntry(new Call(told.id));
    entry.call.zero = Date.parse(told.since);
    entry.call.ended = { reason: "", duration: 0 };
    past.set(told.id, entry);
  }
  for (const { id } of calls) $("calls").append(past.get(id).card.root);
  find();
  drawTotals();
}

// -- what is done ----------------------------------------------------------------------------------------------------

const path = (...parts) => `/v1/calls/${parts.map(encodeURIComponent).join("/")}`;

function attempt(asked) {
  return asked.catch((error) => say("bad", error.message));
}

function act(call, leg, verb) { return attempt(request(`${path(call)}/legs/${encodeURIComponent(leg)}/${verb}`, { method: "POST" })); }
function end(call) { return attempt(request(path(call), { method: "DELETE" })); }
function join(call) { return speak({ call, role: "agent" }); }

// A page that is reloaded while its microphone is in a call joins that call again; only "End call" ends it.
const LINE = "callbridge-line";

function rejoin() {
  const line = JSON.parse(sessionStorage.getItem(LINE) || "null");
  sessionStorage.removeItem(LINE); // a duplicated tab has a copy of it, and must not take the line
  const [how] = performance.getEntriesByType("navigation");
  if (line && how?.type === "reload") speak({ ...line, again: true });
}

async function speak({ call = "", role = "caller", again = false }) {
  if (microphone) return say("busy", "You are on the line already");
  $("speak").disabled = true;
  $("own").hidden = false;
  $("own-text").textContent = "Asking for the microphone";
  microphone = new Microphone({
    state: (state) => { tellOwn(state); if (state === "failed") hangUp(); },
    level: (share) => { $("meter").style.transform = `scaleX(${share})`; },
  });
  try {
    await microphone.start({ call, role });
    sessionStorage.setItem(LINE, JSON.stringify({ call: microphone.call, role }));
    mine.add(microphone.call);
    const { card } = entryOf(microphone.call);
    card.root.classList.add("mine");
    if (document.activeElement === document.body) $("own-mute").focus(); // the button that was pressed is disabled now
    if (tab === "live") $("calls").prepend(card.root);
  } catch (error) {
    microphone = null;
    closeOwn();
    say("bad", again && error.status === 404 ? "Your call ended while the page was reloaded" : error.message);
  }
}

function tellOwn(state) {
  line = state;
  const pressed = (id) => $(id).getAttribute("aria-pressed") === "true";
  const quiet = pressed("own-hold") ? "You are on hold" : pressed("own-mute") ? "You are muted" : "";
  $("own-text").textContent = (state === "connected" && quiet) || CONNECTION[state] || state;
}

let line = "";
const CONNECTION = { connecting: "Connecting", connected: "You are on the line: speak", disconnected: "The line is shaky", failed: "The line broke" };

async function hangUp() {
  const ending = microphone;
  microphone = null;
  closeOwn();
  try { await ending?.end(); } catch { /* it is over already */ }
}

function closeOwn() {
  sessionStorage.removeItem(LINE);
  const hadFocus = $("own").contains(document.activeElement);
  $("own").hidden = true;
  $("speak").disabled = false;
  if (hadFocus) $("speak").focus();
  for (const id of ["own-mute", "own-hold"]) $(id).setAttribute("aria-pressed", "false");
}

function toggle(button, action) {
  button.addEventListener("click", () => {
    if (!microphone) return;
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    tellOwn(line);
    action(on);
  });
}

function choose(next) {
  tab = next;
  for (const name of ["live", "ended"]) {
    $(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    $(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
  }
  $("calls").setAttribute("aria-labelledby", `tab-${tab}`);
  $("calls").replaceChildren(...(tab === "live" ? [...live.values()].map((entry) => entry.card.root) : []));
  if (tab === "ended") attempt(showPast());
  find();
  drawTotals();
}

function find() {
  needle = $("find").value.trim().toLowerCase();
  for (const { card } of (tab === "live" ? live : past).values()) card.root.hidden = !card.matches(needle);
}

function askToken(why) {
  $("ask-error").textContent = why;
  if (!$("ask").open) $("ask").showModal();
}

// -- start -----------------------------------------------------------------------------------------------------------

$("ask").addEventListener("cancel", (event) => event.preventDefault());
$("ask-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setToken($("ask-token").value.trim());
  try {
    await json("/v1/status");
    $("ask").close();
    run();
  } catch (error) {
    askToken(error.status === 401 ? "That token is not known here." : error.message);
  }
});
$("speak").addEventListener("click", () => speak({ role: "caller" }));
$("own-end").addEventListener("click", hangUp);
toggle($("own-mute"), (on) => microphone.mute(on));
toggle($("own-hold"), (on) => act(microphone.call, microphone.leg, on ? "hold" : "resume"));
$("find").addEventListener("input", find);
for (const name of ["live", "ended"]) {
  $(`tab-${name}`).addEventListener("click", () => choose(name));
  $(`tab-${name}`).addEventListener("keydown", ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    const other = name === "live" ? "ended" : "live";
    choose(other);
    $(`tab-${other}`).focus();
  });
}

function run() {
  poll();
  follow(take, (state) => { if (state === "lost") say("bad", "Reconnecting"); if (state === "token") askToken(""); });
}

setInterval(() => { if (!document.hidden) requestAnimationFrame(draw); }, FRAME_MS);

config = await json("/console/config.json");
for (const id of ["t-spent", "t-money"]) $(id).title = `at ${config.price_per_hour} per hour of audio`;
run();
rejoin();
