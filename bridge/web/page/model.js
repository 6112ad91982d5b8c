// What a call is, from its events. No DOM here. Times are call time in seconds.

export const CAUSES = ["silence", "hold", "mute", "music", "tone", "paused"];

export class Leg {
  constructor(leg, role) {
    Object.assign(this, { leg, role, codec: "", participant: "", spans: [], words: [], marks: [], ledger: null, left: false });
  }

  gate(state, cause, since, reason) {
    const last = this.spans.at(-1);
    if (last && last.to === null) {
      last.to = Math.max(since, last.from);
      if (last.state === "open" && state === "closed") this.marks.push({ at: since, kind: "finalize" });
    }
    this.spans.push({ from: since, to: null, state, cause: cause || "", reason: reason || "" });
  }

  get now() { return this.spans.at(-1) || null; }
}

// A line is what one leg said in one turn; interims hang on its end until a final takes their place.
class Line {
  constructor(leg, role, start) {
    Object.assign(this, { leg, role, start, turn: null, parts: new Map(), isOver: false, note: "" });
  }

  get said() { return [...this.parts.values()].filter((p) => p.isFinal).map((p) => p.text).join(" "); }
  get guess() { return [...this.parts.values()].filter((p) => !p.isFinal).map((p) => p.text).join(" "); }
}

export class Call {
  constructor(id) {
    Object.assign(this, { id, ingress: "", from: "", to: "", labels: {}, zero: null, legs: new Map(), lines: [], ended: null });
    this.seen = new Set();
    this.version = 0; // grows with every change: what is drawn compares it
    this.callS = 0;
    this.readAt = performance.now();
    this.missed = 0; // polls in a row without it
    this.isLoaded = false; // its stored events were read
    this.early = []; // live events until then
  }

  // Live events may come before the stored ones were read: then both are told again, in order.
  load(stored) {
    for (const leg of this.legs.values()) Object.assign(leg, { spans: [], words: [], marks: [] });
    this.lines = [];
    this.seen.clear();
    this.isLoaded = true;
    for (const event of [...stored, ...this.early]) this.apply(event);
    this.early = [];
    for (const leg of this.legs.values()) if (!leg.spans.length && leg.told) leg.gate(...leg.told);
  }

  leg(id, role = "") {
    if (!this.legs.has(id)) this.legs.set(id, new Leg(id, role || id));
    const leg = this.legs.get(id);
    if (role) leg.role = role;
    return leg;
  }

  // Call time now.
  get time() {
    return this.ended ? this.ended.duration : this.callS + (performance.now() - this.readAt) / 1000;
  }

  // What GET /v1/calls says.
  snapshot(told) {
    this.missed = 0;
    this.ingress = told.ingress || this.ingress;
    this.from = told.from || this.from;
    this.to = told.to || this.to;
    this.labels = told.labels || this.labels;
    this.zero = this.zero ?? Date.parse(told.since);
    if (typeof told.call_s === "number") { this.callS = told.call_s; this.readAt = performance.now(); }
    for (const { leg: id, role, codec, participant, gate, ledger } of told.legs || []) {
      const leg = this.leg(id, role);
      leg.codec = codec || leg.codec;
      leg.participant = participant || leg.participant;
      leg.ledger = ledger || leg.ledger;
      if (gate) leg.told = [gate.state, gate.cause, gate.since];
      if (gate && !leg.spans.length) leg.gate(...leg.told);
    }
    this.version++;
  }

  apply(event) {
    if (event.seq && this.seen.has(event.seq)) return;
    if (event.seq) this.seen.add(event.seq);
    if (!this.isLoaded) this.early.push(event);
    const take = TAKE[event.type];
    if (take) take(this, event, event.data || {});
    this.version++;
  }

  openLine(event) {
    const same = (line) => line.leg === event.leg && !line.isOver;
    let line = this.lines.findLast(same);
    if (!line) {
      line = new Line(event.leg, event.role, event.start);
      const at = this.lines.findLastIndex((other) => other.start <= line.start);
      this.lines.splice(at + 1, 0, line);
    }
    return line;
  }
}

const TAKE = {
  "call.started"(call, event, data) {
    Object.assign(call, { ingress: data.ingress, from: data.from || "", to: data.to || "", labels: data.labels || {} });
    call.zero = Date.parse(event.at);
    for (const { leg, role, codec, participant } of data.legs || []) {
      Object.assign(call.leg(leg, role), { codec: codec || "", participant: participant || "" });
    }
  },
  "leg.started"(call, event, data) {
    Object.assign(call.leg(event.leg, event.role), { codec: data.codec || "", participant: data.participant || "", left: false });
  },
  "leg.ended"(call, event) { call.leg(event.leg, event.role).left = true; },
  "leg.gate"(call, event, data) { call.leg(event.leg, event.role).gate(data.state, data.cause, data.since, data.reason); },
  "transcript.interim"(call, event, data) {
    const line = call.openLine(event);
    const known = line.parts.get(data.utterance);
    if (!known || !known.isFinal) line.parts.set(data.utterance, { text: event.text, isFinal: false });
  },
  "transcript.final"(call, event, data) {
    const line = call.openLine(event);
    line.turn = data.turn;
    line.parts.set(data.utterance, { text: event.text, isFinal: true });
    for (const [, start, end] of data.words || []) call.leg(event.leg).words.push([start, end]);
  },
  "turn.ended"(call, event, data) {
    const line = call.lines.findLast((each) => each.leg === event.leg && each.turn === data.turn);
    if (line) {
      line.isOver = true;
      for (const [key, part] of line.parts) if (!part.isFinal) line.parts.delete(key);
    }
  },
  "stt.lost"(call, event, data) { mark(call, event, "lost", data.reason); },
  "stt.restored"(call, event, data) { mark(call, event, "restored", data.reason); },
  "call.ended"(call, event, data) {
    call.ended = { reason: data.reason, duration: data.duration_s };
    for (const leg of call.legs.values()) {
      leg.ledger = (data.legs || {})[leg.leg] || leg.ledger;
      const last = leg.spans.at(-1);
      if (last && last.to === null) last.to = data.duration_s;
    }
    for (const line of call.lines) line.isOver = true;
  },
};

function mark(call, event, kind, reason) {
  const at = call.zero === null ? call.time : (Date.parse(event.at) - call.zero) / 1000;
  call.leg(event.leg, event.role).marks.push({ at, kind, reason });
}

// Received, sent and withheld seconds of calls, by cause. `spared` is what the provider will not ask money for because it
// was withheld: one that bills its stream's length (Soniox) bills part of that too.
export function sums(calls) {
  const total = { received: 0, sent: 0, withheld: 0, billable: 0, spared: 0, causes: Object.fromEntries(CAUSES.map((cause) => [cause, 0])) };
  for (const call of calls) {
    for (const { ledger } of call.legs.values()) {
      if (!ledger) continue;
      total.received += ledger.received_s || 0;
      total.sent += ledger.sent_s || 0;
      total.billable += ledger.billable_s || 0;
      const before = total.withheld;
      for (const [cause, seconds] of Object.entries(ledger.withheld_s || {})) {
        total.causes[cause] = (total.causes[cause] || 0) + seconds;
        total.withheld += seconds;
      }
      const unbilled = (ledger.received_s || 0) - (ledger.billable_s || 0);
      total.spared += Math.max(0, Math.min(total.withheld - before, unbilled));
    }
  }
  return total;
}
