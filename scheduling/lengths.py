"""Owns what a request is expected to come to, prompt and answer: learnt from those that ended. Knows no order."""

from __future__ import annotations

from scheduling.faded import FadedMean
from scheduling.request import EXPECTED_OUTPUT_TOKENS, Ticket

_REMEMBERED = 64
_MAX_CLASSES = 256


class LengthEstimate:
    """The mean answer of each service class lately, and never more than a request asks for."""

    def __init__(self) -> None:
        self._mean_output: dict[str, FadedMean] = {}

    def expected_tokens(self, ticket: Ticket) -> int:
        mean = self._mean_output.get(ticket.service_class)
        num_output = EXPECTED_OUTPUT_TOKENS if mean is None else round(mean.value)
        return ticket.num_prompt_tokens + min(ticket.max_output_tokens, max(1, num_output))

    def observe(self, ticket: Ticket, num_served: int) -> None:
        """A request has ended that was served so many tokens, its prompt among them."""
        num_output = float(max(1, num_served - ticket.num_prompt_tokens))
        mean = self._mean_output.get(ticket.service_class)
        if mean is not None:
            mean.observe(num_output)
        elif len(self._mean_output) < _MAX_CLASSES:
            self._mean_output[ticket.service_class] = FadedMean(_REMEMBERED, first=num_output)
