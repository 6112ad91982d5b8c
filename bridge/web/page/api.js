// The bridge's HTTP API as a browser uses it: token, JSON, and event streams by fetch (EventSource cannot send a token).

const KEPT = "callbridge-token";
let token = sessionStorage.getItem(KEPT) || "";

export class Refused extends Error {
  constructor(status, detail) {
    super(detail || `HTTP ${status}`);
    this.status = status;
  }
}

export function setToken(value) {
  token = value;
  sessionStorage.setItem(KEPT, value);
}

export async function request(path, { method = "GET", headers = {}, body, signal } = {}) {
  const all = token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
  const response = await fetch(path, { method, headers: all, body, signal, cache: "no-store" });
  if (response.ok) return response;
  let detail = "";
  try { detail = (await response.json()).detail; } catch { /* not every refusal is ours */ }
  throw new Refused(response.status, detail);
}

export const json = async (path, options) => (await request(path, options)).json();

// Events of one response, parsed as the HTML standard says (section 9.2.6), each as {id, data}.
async function* messages(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", id = "", data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "" && data.length) {
        yield { id, data: JSON.parse(data.join("\n")) };
        data = [];
      } else if (line.startsWith("id: ")) id = line.slice(4);
      else if (line.startsWith("data: ")) data.push(line.slice(6));
    }
  }
}

export async function* stored(call) {
  const response = await request(`/v1/calls/${encodeURIComponent(call)}/events?follow=0`);
  for await (const message of messages(response)) yield message.data;
}

// Live events of all calls, for ever: reconnects behind the last one it saw. `state` hears "open" and "lost".
export async function follow(take, state) {
  let last = "", wait = 500;
  for (;;) {
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const response = await request("/v1/events", { headers });
      state("open");
      wait = 500;
      for await (const message of messages(response)) {
        last = message.id || last;
        take(message.data);
      }
    } catch (error) {
      if (error.status === 401) { state("token"); return; }
    }
    state("lost");
    await new Promise((go) => setTimeout(go, wait));
    wait = Math.min(wait * 2, 8000);
  }
}
