"""Holds what the engine answers against a plain float32 pass of transformers' own model. Times nothing."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.engine import EngineWorkload
from benchmarks.gpu_engine import EngineRun, greedy_request
from engine.loop import EngineLoop
from engine.protocol import CommandMessage, EngineRequest
from fastserve.ports import LOOPBACK, free_port

PROMPT_LENGTHS = (1, 17, 255, 256, 257, 300, 40, 9)
NUM_OUTPUT_TOKENS = 24


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Of greedy answers, beside what the reference says of the same tokens.

    worst_logprob_error: of the log probability of a chosen token. worst_gap: by how much, in log probability, the
    reference prefers its own best token to the chosen one. num_same: tokens that are the reference's own best.
    """

    what: str
    num_tokens: int
    num_same: int
    worst_logprob_error: float
    worst_gap: float
    tolerance: float
    num_graphs: int

    @property
    def passed(self) -> bool:
        return max(self.worst_logprob_error, self.worst_gap) <= self.tolerance


@dataclass(frozen=True, slots=True)
class Answer:
    """One greedy answer and the log probability of each of its tokens."""

    prompt: list[int]
    token_ids: list[int]
    logprobs: list[float]


def check_engine(what: str, run: EngineRun) -> CheckResult:
    """Answers several prompts of all lengths together, then runs the reference over prompts and answers."""
    load = EngineWorkload(max(PROMPT_LENGTHS), NUM_OUTPUT_TOKENS)
    answers, num_graphs = _answers(replace(run, batches=(len(PROMPT_LENGTHS),), load=load, prefill_tokens=512))
    gc.collect()
    if run.device == "cuda":
        torch.cuda.empty_cache()
    errors, gaps = _against_reference(Path(run.folder), run.device, answers)
    return CheckResult(
        what=what,
        num_tokens=len(gaps),
        num_same=sum(gap == 0.0 for gap in gaps),
        worst_logprob_error=max(errors),
        worst_gap=max(gaps),
        tolerance=1e-3 if run.dtype == "float32" else 0.15,
        num_graphs=num_graphs,
    )


def _answers(run: EngineRun) -> tuple[list[Answer], int]:
    from engine.backends.deepspeed import DeepSpeedEngine, load_rank
    from engine.runner import ModelRunner

    config = run.config()
    loaded = load_rank(config, 0, LOOPBACK, free_port())
    runner = loaded.runner
    engine = DeepSpeedEngine(loaded)
    requests = [_request(index, length, run.shape.vocab_size) for index, length in enumerate(PROMPT_LENGTHS)]
    answers = answer_all(EngineLoop(engine, config), requests)
    engine.close()
    return answers, runner.num_graphs if isinstance(runner, ModelRunner) else 0


def _request(index: int, length: int, vocab_size: int) -> EngineRequest:
    request = greedy_request(str(index), index, length, NUM_OUTPUT_TOKENS, vocab_size)
    return replace(request, sampling=replace(request.sampling, logprobs=0))


def answer_all(loop: EngineLoop, requests: list[EngineRequest]) -> list[Answer]:
    """Every answer, in the order of the requests.

    Raises:
        RuntimeError: a sequence failed.
    """
    loop.apply(CommandMessage(added=requests))
    answers = {request.lease_id: Answer(request.prompt_token_ids, [], []) for request in requests}
    while loop.has_work:
        for output in loop.step().outputs:
            if output.error is not None:
                raise RuntimeError(output.error)
            answers[output.lease_id].token_ids.extend(output.token_ids)
            answers[output.lease_id].logprobs.extend(each.logprob for each in output.logprobs)
    return list(answers.values())


@torch.inference_mode()
def _against_reference(folder: Path, device: str, answers: list[Answer]) -> tuple[list[float], list[float]]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.to(torch.device(device)).eval()  # type: ignore[arg-type]
    errors: list[float] = []
    gaps: list[float] = []
    for answer in answers:
        tokens = torch.tensor([answer.prompt + answer.token_ids], device=device)
        rows = model(tokens, use_cache=False).logits[0, len(answer.prompt) - 1 : -1].log_softmax(-1)
        own = rows.gather(1, tokens[0, len(answer.prompt) :, None]).squeeze(1)
        errors += (own.cpu() - torch.tensor(answer.logprobs)).abs().tolist()
        gaps += (rows.amax(-1) - own).tolist()
    return errors, gaps
