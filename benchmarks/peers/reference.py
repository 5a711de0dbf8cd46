"""Owns what counts as the same answer: greedy tokens, held to transformers in float32. Times nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Of a logit, in bf16: what rounding may take from the best token to the next best.
MARGIN = 0.5
LEAST_AGREEMENT = 0.9

#: For a sequence of token ids, at each position the best logit of the next token, and that of the token that follows.
Judge = Callable[[list[int]], list[tuple[float, float]]]


class WrongAnswers(Exception):
    """A side does not generate what the model says; its speed would mean nothing."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of `num_tokens` generated tokens, `num_best` are the reference's own choice; the others lie within the margin."""

    num_tokens: int
    num_best: int

    def __str__(self) -> str:
        return (
            f"{self.num_best} of {self.num_tokens} tokens are the reference's first choice, the others within rounding"
        )


def check_answers(name: str, prompts: list[list[int]], answers: list[list[int]], judge: Judge) -> Agreement:
    """Each token is judged after the side's own tokens before it, so that one close choice does not spoil the rest.

    Raises:
        WrongAnswers: a token is further from the best than rounding allows, or too many are not the best.
    """
    gaps = [
        best - chosen
        for prompt, answer in zip(prompts, answers, strict=True)
        for best, chosen in judge(prompt + answer)[len(prompt) - 1 :]
    ]
    found = Agreement(len(gaps), sum(gap == 0.0 for gap in gaps))
    if max(gaps) > MARGIN:
        raise WrongAnswers(f"{name}: a token is {max(gaps):.2f} below the reference's first choice; at most {MARGIN}")
    if found.num_best < LEAST_AGREEMENT * found.num_tokens:
        raise WrongAnswers(f"{name}: {found}; expected at least {LEAST_AGREEMENT:.0%} first choices")
    return found


def transformers_judge(folder: Path) -> Judge:
    """The plain model in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def judge(token_ids: list[int]) -> list[tuple[float, float]]:
        with torch.inference_mode():
            logits = model(torch.tensor([token_ids])).logits[0, :-1]
        followed = logits.gather(1, torch.tensor(token_ids[1:])[:, None])[:, 0]
        return list(zip(logits.max(dim=1).values.tolist(), followed.tolist(), strict=True))

    return judge
