"""Owns what the GPU benchmark's results file says, of what was run and of what was not. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from benchmarks.engine import EngineWorkload
from benchmarks.gpu_card import CardSpeed
from benchmarks.gpu_check import CheckResult
from benchmarks.gpu_engine import DecodeTime, EngineTimes
from benchmarks.gpu_shapes import ModelShape
from fastserve.machine import Machine

_NOT_MEASURED = "-"
_COLUMNS = ("sequences", "way", "step, ms", "output tokens/s", "share of the bandwidth limit", "steps counted")


@dataclass(frozen=True, slots=True)
class GpuReport:
    """One run. engines: by way, e.g. `graphs`. left_out, failed: the other parts, with reasons."""

    date: str
    command: str
    commit: str
    machine: Machine
    shape: ModelShape
    dtype: str
    element_bytes: int
    load: EngineWorkload
    prefill_tokens: int
    card: CardSpeed | None = None
    checks: list[CheckResult] = field(default_factory=list)
    engines: dict[str, EngineTimes] = field(default_factory=dict)
    transformers: list[DecodeTime] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check holds, and every part that was asked for ran."""
        return not self.failed and all(check.passed for check in self.checks)

    def to_json(self) -> str:
        return json.dumps({"benchmark": "gpu", **asdict(self)}, indent=2) + "\n"

    def to_markdown(self) -> str:
        sections = [f"# GPU benchmark, {self.date}", self._what(), *self._checks(), *self._decodes(), *self._prefills()]
        for title, parts in (("Not run:", self.left_out), ("Failed:", self.failed)):
            if parts:
                sections.append("\n".join([title, "", *(f"- {part}: {why}" for part, why in parts.items())]))
        sections.append("\n".join(f"- {name}: {value}" for name, value in self._facts()))
        return "\n\n".join(sections) + "\n"

    def limit_s(self, decode: DecodeTime) -> float | None:
        """The least time of such a step: the bytes that it has to read, at the speed at which the device copies."""
        if self.card is None:
            return None
        return self.shape.decode_bytes(decode.num_context_tokens, self.element_bytes) / self.card.copy_bytes_per_s

    def _what(self) -> str:
        shape, load = self.shape, self.load
        return (
            "The engine's own loop on one rank, without Ray or HTTP: a Llama of random weights "
            f"({shape.num_layers} layers of {shape.hidden_size}, {shape.num_heads} heads, {shape.num_kv_heads} "
            f"key-value heads, {self.dtype}), {load.num_prompt_tokens} prompt tokens and {load.num_output_tokens} "
            "output tokens each, greedy. The median of the steps in which all sequences decode, planning and sampling "
            "included. The bandwidth limit is the time to read the weights and the KV cache once, at the measured "
            "speed of a copy."
        )

    def _checks(self) -> Iterator[str]:
        for check in self.checks:
            yield (
                f"Check, {check.what}: {'passed' if check.passed else 'FAILED'}. Of {check.num_tokens} greedy tokens "
                f"{check.num_same} are those of transformers in float32, whose best token is nowhere more than "
                f"{check.worst_gap:.4f} likelier (in log probability) than the chosen one. Log probabilities differ "
                f"by at most {check.worst_logprob_error:.4f}; {check.tolerance} is allowed. {check.num_graphs} batch "
                "sizes were replayed."
            )

    def _decodes(self) -> Iterator[str]:
        ways = {name: times.decodes for name, times in self.engines.items()}
        if self.transformers:
            ways["transformers"] = self.transformers
        rows = sorted(
            ((decode.num_sequences, index, way, decode) for index, way in enumerate(ways) for decode in ways[way]),
            key=lambda row: row[:2],
        )
        if rows:
            table = [_COLUMNS, ("---:",) * len(_COLUMNS), *(self._row(way, decode) for _, _, way, decode in rows)]
            yield "\n".join(f"| {' | '.join(row)} |" for row in table)

    def _row(self, way: str, decode: DecodeTime) -> tuple[str, ...]:
        limit_s = self.limit_s(decode)
        share = _NOT_MEASURED if limit_s is None else f"{limit_s / decode.step_s:.1%}"
        times = (f"{decode.step_s * 1000:.2f}", f"{decode.tokens_per_s:.0f}")
        return (str(decode.num_sequences), way, *times, share, str(decode.num_steps))

    def _prefills(self) -> Iterator[str]:
        for way, times in self.engines.items():
            rate = f"{self.prefill_tokens / times.prefill_s:.0f} tokens/s"
            share = ""
            if self.card is not None:
                operations = self.shape.prefill_operations(self.prefill_tokens)
                share = f", {operations / times.prefill_s / self.card.operations_per_s:.1%} of one large product's rate"
            yield f"Prefill of one prompt of {self.prefill_tokens} tokens ({way}): {rate}{share}."

    def _facts(self) -> Iterator[tuple[str, str]]:
        if self.card is not None:
            yield "device", self.card.name
            yield "copies, read and written", f"{self.card.copy_bytes_per_s / 1e9:.0f} GB/s"
            yield "one large product", f"{self.card.operations_per_s / 1e12:.1f} TFLOP/s"
        for way, times in self.engines.items():
            yield f"engine ({way})", f"ready in {times.load_s:.1f} s, {times.num_graphs} batch sizes replayed"
        yield "command", f"`{self.command}`"
        yield "commit", f"`{self.commit}`"
        yield "hardware", self.machine.hardware()
        yield "software", self.machine.software()
