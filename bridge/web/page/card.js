// One call as a card. Whatever comes from outside is set as text, never as markup.

import { clock, drawAxis, drawLane, spanAt, duration, view } from "./lanes.js";
import { CAUSES, sums } from "./model.js";

const CARD = document.getElementById("card"), LANE = document.getElementById("lane");
const VERBS = [["hold", "Hold"], ["resume", "Resume"], ["mute", "Mute"], ["unmute", "Unmute"], ["pause", "Pause (card data)"]];
const LINES = 40; // lines kept in the page while a card is small

// Sets text only where it changed: nothing is laid out, and no screen reader told, for nothing.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export class Card {
  constructor(call, { act, end, join, price, isMine }) {
    this.call = call;
    this.ask = { act, end, join };
    this.price = price;
    this.drawn = -1;
    this.isVisible = false;
    this.lanes = new Map();
    this.lines = new Map();
    const root = CARD.content.firstElementChild.cloneNode(true);
    this.root = root;
    const find = (selector) => root.querySelector(selector);
    this.part = {
      who: find(".who"), badge: find(".badge"), when: find(".when"), figures: find(".figures"), lanes: find(".lanes"),
      axis: find(".axis"), words: find(".words"), details: find(".details"), verbs: find(".verbs"),
      rows: find(".ledger tbody"), id: find(".id"), more: find(".more"),
    };
    root.classList.toggle("mine", isMine);
    this.part.words.addEventListener("scroll", () => this.fade(), { passive: true });
    this.part.more.addEventListener("click", () => this.open(this.part.details.hidden));
  }

  open(isOpen) {
    this.part.details.hidden = !isOpen;
    this.part.more.setAttribute("aria-expanded", String(isOpen));
    say(this.part.more, isOpen ? "Less" : "Details");
    this.root.classList.toggle("wide", isOpen);
    this.part.words.setAttribute("aria-live", isOpen ? "polite" : "off");
    this.drawn = -1;
    this.draw();
  }

  get title() {
    const { from, to, legs, labels } = this.call;
    const names = [...legs.values()].map((leg) => leg.participant).filter(Boolean);
    const label = Object.values(labels).join(", ");
    const party = (uri) => uri.replace(/^sips?:/, "");
    const ends = from || to ? [party(from) || "unknown", party(to)].filter(Boolean).join(" → ") : names.join(", ");
    const kind = this.call.ingress === "webrtc" ? "Browser call" : "Call";
    return [ends || `${kind} ${this.call.id.slice(0, 8)}`, label].filter(Boolean).join(" · ");
  }

  matches(needle) {
    return !needle || `${this.title} ${this.call.id} ${this.call.ingress}`.toLowerCase().includes(needle);
  }

  draw() {
    if (!this.isVisible) return;
    const { call, part } = this;
    if (this.drawn !== call.version) {
      this.drawn = call.version;
      say(part.who, this.title);
      say(part.badge, call.ingress.toUpperCase());
      say(part.id, call.id);
      this.drawFigures();
      this.drawWords();
      if (!part.details.hidden) this.drawDetails();
    }
    const state = call.ended ? `${clock(call.time)} · ended${call.ended.reason ? `: ${call.ended.reason}` : ""}` : `live ${clock(call.time)}`;
    const started = call.zero ? new Date(call.zero).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : "";
    say(part.when, [state, started && `${call.ended ? "from" : "since"} ${started}`].filter(Boolean).join(" · "));
    this.drawLanes();
  }

  drawLanes() {
    const window = view(this.call, !this.part.details.hidden);
    for (const leg of this.call.legs.values()) {
      let lane = this.lanes.get(leg.leg);
      if (!lane) {
        const root = LANE.content.firstElementChild.cloneNode(true);
        lane = { role: root.querySelector(".role"), canvas: root.querySelector("canvas"), now: root.querySelector(".now") };
        this.lanes.set(leg.leg, lane);
        lane.canvas.onmousemove = ({ offsetX }) => {
          const part = view(this.call, !this.part.details.hidden);
          lane.canvas.title = spanAt(lane.canvas, this.call.legs.get(leg.leg), part, this.call.time, offsetX);
        };
        this.part.lanes.append(root);
      }
      const gate = leg.now, state = !gate ? "" : gate.state === "open" ? "open" : gate.cause;
      const told = this.call.ended || leg.left ? "ended" : state === "open" ? "sending" : state;
      say(lane.role, leg.role);
      lane.role.title = [leg.participant, leg.codec].filter(Boolean).join(", ");
      say(lane.now, told);
      lane.now.dataset.state = told === "sending" ? "open" : "closed";
      const label = `${leg.role}: ${told || "starting"}. ${spoken(leg)}`;
      if (lane.canvas.getAttribute("aria-label") !== label) lane.canvas.setAttribute("aria-label", label);
      drawLane(lane.canvas, leg, window, this.call.time);
    }
    drawAxis(this.part.axis, window);
  }

  drawFigures() {
    const total = sums([this.call]), line = [];
    if (total.received) {
      line.push(bold("received ", duration(total.received)), bold("sent ", duration(total.sent)));
      const why = CAUSES.filter((cause) => total.causes[cause] >= 0.05).map((cause) => `${cause} ${duration(total.causes[cause])}`);
      line.push(bold("withheld ", duration(total.withheld), why.length ? ` (${why.join(", ")})` : ""));
      const gain = make("span", "gain", `${((total.spared / 3600) * this.price).toFixed(3)} not spent`);
      gain.title = `at ${this.price} per hour of audio`;
      line.push(gain);
    }
    const nodes = line.flatMap((node, n) => (n ? [" · ", node] : [node]));
    this.part.figures.replaceChildren(...nodes);
  }

  drawWords() {
    const box = this.part.words, atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const shown = this.part.details.hidden ? this.call.lines.slice(-LINES) : this.call.lines;
    const keep = new Set(shown);
    for (const [line, row] of this.lines) if (!keep.has(line)) { row.remove(); this.lines.delete(line); }
    let before = null;
    for (const line of shown) {
      let row = this.lines.get(line);
      if (!row) {
        row = make("li");
        const said = make("p", "said");
        row.append(make("span", "role", line.role || line.leg), said);
        said.append(make("time", "", clock(line.start)), make("span"), make("span", "guess"));
        this.lines.set(line, row);
      }
      const [, final, guess] = row.lastElementChild.children;
      say(final, line.said);
      say(guess, line.guess ? ` ${line.guess}` : "");
      if (row.parentNode !== box || row.previousElementSibling !== before) before ? before.after(row) : box.prepend(row);
      before = row;
    }
    if (atEnd) box.scrollTop = box.scrollHeight;
    this.fade();
  }

  // Lines that lie above what is shown fade out instead of being cut.
  fade() { this.part.words.classList.toggle("cut", this.part.words.scrollTop > 2); }

  drawDetails() {
    const legs = [...this.call.legs.values()], { verbs, rows } = this.part;
    const wanted = this.call.ended ? "" : legs.filter((leg) => !leg.left).map((leg) => leg.leg).join();
    if (verbs.dataset.legs !== wanted) {
      verbs.dataset.legs = wanted;
      verbs.replaceChildren(...(wanted ? this.controls(legs.filter((leg) => !leg.left)) : []));
    }
    rows.replaceChildren(...legs.map(({ role, ledger }) => {
      const row = make("tr"), l = ledger || {};
      const withheld = Object.values(l.withheld_s || {}).reduce((sum, seconds) => sum + seconds, 0);
      const cells = [l.received_s, l.sent_s, withheld, l.billable_s, l.lost_s].map((s) => make("td", "", (s || 0).toFixed(1)));
      const head = make("th", "", role);
      head.scope = "row";
      row.append(head, ...cells);
      return row;
    }));
  }

  controls(legs) {
    const rows = legs.map((leg) => {
      const row = make("div");
      row.setAttribute("role", "group");
      row.setAttribute("aria-label", leg.role);
      row.append(make("span", "", leg.role));
      for (const [verb, label] of VERBS) row.append(this.button(label, () => this.ask.act(this.call.id, leg.leg, verb)));
      return row;
    });
    const last = make("div");
    const end = this.button("End call", () => this.ask.end(this.call.id));
    end.className = "danger";
    last.append(make("span", "", "call"), this.button("Join with microphone", () => this.ask.join(this.call.id)), end);
    return [...rows, last];
  }

  button(label, action) {
    const button = make("button", "", label);
    button.type = "button";
    button.addEventListener("click", action);
    return button;
  }
}

function bold(before, value, after = "") {
  const span = make("span", "", before);
  span.append(make("b", "", value), after);
  return span;
}

function spoken({ ledger }) {
  if (!ledger || !ledger.received_s) return "";
  const why = Object.entries(ledger.withheld_s || {}).filter(([, s]) => s >= 1).map(([cause, s]) => `${Math.round(s)} seconds ${cause}`);
  return `Sent ${Math.round(ledger.sent_s)} of ${Math.round(ledger.received_s)} seconds${why.length ? `, withheld ${why.join(", ")}` : ""}.`;
}
