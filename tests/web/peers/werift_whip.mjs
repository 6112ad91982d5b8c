// A WHIP client on a second WebRTC stack: node werift_whip.mjs ENDPOINT PACKETS.json SECONDS LOSS
// PACKETS.json is a list of base64 Opus payloads of 20 ms; they are sent round and round. Ends with DELETE.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(`${process.env.WERIFT}/`);
const { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters, RtpHeader, RtpPacket } = require("werift");

const [endpoint, file, seconds, loss] = process.argv.slice(2);
const payloads = JSON.parse(readFileSync(file, "utf8")).map((text) => Buffer.from(text, "base64"));
const opus = new RTCRtpCodecParameters({ mimeType: "audio/opus", clockRate: 48000, channels: 2 });
const peer = new RTCPeerConnection({ codecs: { audio: [opus] }, iceServers: [] });
const track = new MediaStreamTrack({ kind: "audio" });
peer.addTransceiver(track, { direction: "sendonly" });
await peer.setLocalDescription(await peer.createOffer());
const response = await fetch(endpoint, {
  method: "POST", headers: { "Content-Type": "application/sdp" }, body: peer.localDescription.sdp,
});
if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`);
const session = new URL(response.headers.get("Location"), endpoint);
await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
while (peer.connectionState !== "connected") await new Promise((go) => setTimeout(go, 20));

const begun = performance.now(), total = Number(seconds) * 50;
for (let n = 0; n < total; n++) {
  const due = begun + 20 * n;
  await new Promise((go) => setTimeout(go, Math.max(0, due - performance.now())));
  if (Math.random() < Number(loss)) continue;
  const header = new RtpHeader({ payloadType: 111, sequenceNumber: (65000 + n) & 0xffff, timestamp: (n * 960) >>> 0 });
  track.writeRtp(new RtpPacket(header, payloads[n % payloads.length]));
}
await new Promise((go) => setTimeout(go, 100));
const gone = await fetch(session, { method: "DELETE" });
console.log(JSON.stringify({ deleted: gone.status }));
process.exit(0);
