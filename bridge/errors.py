"""Errors by whose fault they are, and what follows.

BridgeError
  ConfigError       ours, at the start     every problem at once, exit status 2
  CapacityError     nobody's               the call is refused (503 + Retry-After), never queued
  PeerError         the caller's side      answered with its status, or dropped and counted
    SipError  SdpError  MalformedPacket
  ProviderError     upstream               reconnect and replay, else fail over
  SinkError         upstream               the outbox holds the event; calls go on
  InvalidState      our bug                ends the leg, logged with its traceback
"""

from __future__ import annotations


class BridgeError(Exception):
    """Base of all errors raised by callbridge."""


class ConfigError(BridgeError):
    """The configuration cannot work. `problems` holds every finding, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class CapacityError(BridgeError):
    """No room for another call now. `retry_after` is in seconds."""

    def __init__(self, reason: str, *, retry_after: int = 5) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class PeerError(BridgeError):
    """The other side sent something we cannot or will not take."""


class SipError(PeerError):
    """A SIP request that must be refused with `status` (RFC 3261 section 21)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


class SdpError(PeerError):
    """A session description that cannot be answered; a SIP ingress answers 488."""


class MalformedPacket(PeerError):
    """Not RTP or RTCP; dropped and counted, never leaves `bridge.rtp`."""


class ProviderError(BridgeError):
    """A speech-to-text provider refused or failed. `is_retryable` tells whether a new session may cure it."""

    def __init__(self, reason: str, *, is_retryable: bool) -> None:
        super().__init__(reason)
        self.is_retryable = is_retryable


class SinkError(BridgeError):
    """A sink did not take a batch; the outbox keeps it and tries again."""


class InvalidState(BridgeError):
    """Our own code asked an object for something its state forbids: a bug."""
