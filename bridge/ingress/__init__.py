"""Ways in. A new one is one file and one line in `INGRESSES`.

Each entry makes its ingress from (settings, host, metrics); it raises ConfigError for what can never work. Imports are
late: a site without WebRTC does not load a WebRTC stack.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.config import Settings
from bridge.ingress.contract import Host, Ingress
from bridge.metrics import Metrics

Factory = Callable[[Settings, Host, Metrics], Ingress]


def _sip(settings: Settings, host: Host, metrics: Metrics) -> Ingress:
    from bridge.ingress.sip import make_sip_ingress

    return make_sip_ingress(settings, host, metrics)


def _webrtc(settings: Settings, host: Host, metrics: Metrics) -> Ingress:
    from bridge.ingress.webrtc import WebRtc

    return WebRtc(host, rtp=settings.rtp, metrics=metrics, capacity=settings.service.rows)


INGRESSES: dict[str, Factory] = {"sip": _sip, "webrtc": _webrtc}
