"""Owns what a results file says of two settings that took turns, as JSON and as Markdown. Measures nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import fmean, median

from benchmarks.load import LevelRun, Workload
from benchmarks.peers.pairs import Comparison
from fastserve.errors import ServerFailed
from fastserve.machine import Machine, provenance

MEASURES = ("TTFT p50, ms", "ITL p50, ms", "ITL mean, ms", "output tokens/s")


def figures(run: LevelRun) -> list[float]:
    """In the order of `MEASURES`.

    Raises:
        ServerFailed: a request got no whole answer.
    """
    if run.failures:
        raise ServerFailed(run.failures[0].reason)
    gaps_ms = [gap_s * 1000 for answer in run.answers for gap_s in answer.gaps_s]
    ttft_ms = median(answer.ttft_s * 1000 for answer in run.answers)
    return [ttft_ms, median(gaps_ms), fmean(gaps_ms), run.output_tokens_per_s]


@dataclass(frozen=True, slots=True)
class LivePairReport:
    """One run. settings: of the ingress, the first and the second, as JSON."""

    date: str
    command: str
    commit: str
    machine: Machine
    settings: tuple[str, str]
    num_clients: int
    workload: Workload
    comparisons: list[Comparison]

    def to_json(self) -> str:
        ratios = {each.measure: each.ratio for each in self.comparisons}
        return json.dumps({"benchmark": "live-pair", **asdict(self), "ratios": ratios}, indent=2) + "\n"

    def to_markdown(self) -> str:
        load = self.workload
        what = (
            f"{load.model} in one service, whose ingress has the one setting and the other in turn (A B B A): "
            f"first `{self.settings[0]}`, second `{self.settings[1]}`. In each of {len(self.comparisons[0].ours)} "
            f"turns of each, {self.num_clients} clients ask {load.requests_per_client} times for a stream of "
            f"{load.num_output_tokens} tokens, greedy; prompts of {load.num_prompt_words} words, all different."
        )
        head = "| | first over second | quartiles of the ratio | first | second |\n|---|---:|---:|---:|---:|"
        rows = [_row(each) for each in self.comparisons]
        facts = "\n".join(provenance(self.command, self.commit, self.machine))
        title = f"# Two settings in turn, {self.date}"
        return "\n\n".join([title, what, "\n".join([head, *rows]), "Medians over the pairs of turns.", facts]) + "\n"


def _row(each: Comparison) -> str:
    ratios = sorted(each.ratios)
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    ours, peers = median(each.ours), median(each.peers)
    return f"| {each.measure} | {each.ratio:.3f} | {low:.3f} to {high:.3f} | {ours:.1f} | {peers:.1f} |"
