"""Owns what counts as the same answer: greedy tokens, held to transformers in float32. Times nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Of the largest logit, how far below the best a token may lie. bf16 keeps 8 bits, so a rounding errs by up to 2**-9 of
#: the value; over the residual sums of some 30 layers, two in each, errors that go either way add up to the root of 60
#: times that, about 2**-6, and two logits may err against each other.
MARGIN = 2**-5
LEAST_AGREEMENT = 0.9
CHECKED_PROMPTS, CHECKED_PROMPT_TOKENS, CHECKED_TOKENS = 4, 64, 32


@dataclass(frozen=True, slots=True)
class Choice:
    """Logits at one position: of the best next token, of the one that follows, and the largest by its size alone."""

    best: float
    chosen: float
    largest: float

    @property
    def gap(self) -> float:
        return self.best - self.chosen

    @property
    def margin(self) -> float:
        return MARGIN * self.largest


#: For a sequence of token ids, each position's choice of the next.
Judge = Callable[[list[int]], list[Choice]]


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

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.num_tokens + other.num_tokens, self.num_best + other.num_best)


def check_answers(name: str, prompts: list[list[int]], answers: list[list[int]], judge: Judge) -> Agreement:
    """Each token is judged after the side's own tokens before it, so that one close choice does not spoil the rest.

    Raises:
        WrongAnswers: a token is further from the best than rounding allows, or too many are not the best.
    """
    choices = [
        choice
        for prompt, answer in zip(prompts, answers, strict=True)
        for choice in judge(prompt + answer)[len(prompt) - 1 :]
    ]
    for choice in choices:
        if choice.gap > choice.margin:
            raise WrongAnswers(
                f"{name}: a token is {choice.gap:.2f} below the reference's first choice; at most {choice.margin:.2f}"
            )
    found = Agreement(len(choices), sum(choice.gap == 0.0 for choice in choices))
    if found.num_best < LEAST_AGREEMENT * found.num_tokens:
        raise WrongAnswers(f"{name}: {found}; expected at least {LEAST_AGREEMENT:.0%} first choices")
    return found


def transformers_judge(folder: Path) -> Judge:
    """The plain model in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def judge(token_ids: list[int]) -> list[Choice]:
        with torch.inference_mode():
            logits = model(torch.tensor([token_ids])).logits[0, :-1]
        followed = logits.gather(1, torch.tensor(token_ids[1:])[:, None])[:, 0]
        columns = (logits.amax(dim=1), followed, logits.abs().amax(dim=1))
        return [Choice(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    return judge
