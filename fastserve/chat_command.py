"""Owns the conversation on a terminal: turns typed, answers streamed. Knows nothing of how answers are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console

from fastserve.chat_stream import ChatTurn
from fastserve.client import Client
from fastserve.errors import FastServeError


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How every turn of a conversation is asked."""

    model: str
    priority: float = 0.0
    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(slots=True)
class Conversation:
    """The turns so far. A turn that fails or is interrupted leaves no trace in them."""

    client: Client
    options: AnswerOptions
    console: Console
    turns: list[ChatTurn] = field(default_factory=list)

    def ask(self, prompt: str) -> None:
        """Prints the answer as it arrives. Ctrl-C cancels it.

        Raises:
            FastServeError: the answer was refused, or failed.
        """
        asked = [*self.turns, ChatTurn("user", prompt)]
        task = self.client.submit(
            asked,
            model=self.options.model,
            priority=self.options.priority,
            max_tokens=self.options.max_tokens,
            temperature=self.options.temperature,
        )
        try:
            self._print(task.stream())
            self.turns = [*asked, ChatTurn("assistant", task.result())]
        finally:
            task.cancel()

    def go_on(self, prompts: Iterator[str]) -> None:
        """Asks each prompt in turn; a failure is printed and the conversation goes on."""
        for prompt in prompts:
            try:
                self.ask(prompt)
            except KeyboardInterrupt:
                self.console.print("\n[dim]cancelled[/]")
            except FastServeError as error:
                self.console.print(f"\n[red]{type(error).__name__}[/]: {error}")

    def _print(self, pieces: Iterator[str]) -> None:
        for piece in pieces:
            self.console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
        self.console.print()


def typed_prompts(console: Console) -> Iterator[str]:
    """What the user types, line by line, until end of input or Ctrl-C at the prompt."""
    while True:
        try:
            prompt = console.input("[bold]> [/]")
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if prompt.strip():
            yield prompt
