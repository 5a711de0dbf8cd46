"""Owns what a replica tells an ingress over their connection, and how it is written. Sends nothing itself.

The first frame of a connection is the ingress's secret, as it stands in the address that its calls carry. Every other
frame is msgpack of one `FeedMessage`, at least one every `BEAT_S`. Only replicas speak.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from deployments.generate_call import Started
from engine.framing import frame
from engine.protocol import SequenceOutput

BEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class CallStarted:
    """`Started` of the call under this lease."""

    lease_id: str
    started: Started


@dataclass(frozen=True, slots=True)
class FeedMessage:
    """What has happened to the calls of one ingress since the last message."""

    started: list[CallStarted] = field(default_factory=list)
    outputs: list[SequenceOutput] = field(default_factory=list)
    entered: list[str] = field(default_factory=list)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(FeedMessage)


def encode(message: FeedMessage) -> bytes:
    """One frame. Raises engine.framing.FrameTooLarge."""
    return frame(_encoder.encode(message))


def decode(payload: bytes) -> FeedMessage:
    """Raises msgspec.DecodeError: the peer speaks something else."""
    return _decoder.decode(payload)
