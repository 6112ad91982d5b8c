"""What a sink is. The words live with the outbox, a floor below, because the publisher speaks them too."""

from __future__ import annotations

from bridge.publish.contract import Health, Part, Position, Receipt, Record, Sink

__all__ = ["Health", "Part", "Position", "Receipt", "Record", "Sink"]
