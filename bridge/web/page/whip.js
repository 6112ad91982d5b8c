// A call from this browser's microphone over WHIP (RFC 9725).

import { request } from "./api.js";

const GATHER_MS = 1000; // candidates that take longer are left out: the bridge sees where packets come from

export class Microphone {
  constructor({ state, level }) {
    this.tell = state;
    this.level = level;
    this.location = "";
    this.call = "";
    this.leg = "";
  }

  async start({ call = "", role = "caller" } = {}) {
    if (!navigator.mediaDevices) throw new Error("A browser gives the microphone to https pages and to localhost only.");
    // Recognisers are trained on noise; what a suppressor takes away with it is gone for good.
    const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: false, autoGainControl: false };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio });
    try {
      await this.connect(call, role);
    } catch (error) {
      this.release();
      throw error;
    }
  }

  async connect(call, role) {
    const peer = new RTCPeerConnection();
    this.peer = peer;
    peer.addTransceiver(this.stream.getAudioTracks()[0], { direction: "sendonly" });
    peer.addEventListener("connectionstatechange", () => this.tell(peer.connectionState));
    await peer.setLocalDescription();
    await gathered(peer);
    const path = `/whip${call ? `/${encodeURIComponent(call)}` : ""}?role=${encodeURIComponent(role)}`;
    const response = await request(path, {
      method: "POST", headers: { "Content-Type": "application/sdp" }, body: peer.localDescription.sdp,
    });
    this.location = response.headers.get("Location");
    this.call = response.headers.get("Callbridge-Call");
    this.leg = response.headers.get("Callbridge-Leg");
    await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
    this.listen();
  }

  listen() {
    this.context = new AudioContext();
    const ear = this.context.createAnalyser(), samples = new Float32Array(512);
    ear.fftSize = 512;
    this.context.createMediaStreamSource(this.stream).connect(ear);
    this.meter = setInterval(() => {
      ear.getFloatTimeDomainData(samples);
      const loud = Math.sqrt(samples.reduce((sum, s) => sum + s * s, 0) / samples.length);
      this.level(Math.min(1, Math.max(0, 1 + Math.log10(loud + 1e-6) / 2.5)));
    }, 100);
  }

  // A muted track still sends packets, of digital silence: the bridge hears that as `mute`.
  mute(on) { for (const track of this.stream.getAudioTracks()) track.enabled = !on; }

  async end() {
    const location = this.location;
    this.release();
    if (location) await request(location, { method: "DELETE" });
  }

  release() {
    clearInterval(this.meter);
    this.location = "";
    if (this.context) this.context.close();
    if (this.peer) this.peer.close();
    if (this.stream) for (const track of this.stream.getTracks()) track.stop();
  }
}

function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((done) => {
    setTimeout(done, GATHER_MS);
    peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && done());
  });
}
