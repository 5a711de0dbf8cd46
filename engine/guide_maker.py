"""Owns making guides beside the steps: a grammar takes long to compile, and no stream stands still for another's.

Knows nothing of sequences, batches or sockets. `beside` gives it a thread; without one, whoever drives the loop calls
`make_one`. llguidance lets go of Python's lock while it compiles, and holds it for the few milliseconds in which it
reads the grammar's text.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.grammar import GrammarRefused, Grammars, GrammarUnserved, Guide

_log = logging.getLogger(__name__)
#: Who waits for a guide.
Asker = TypeVar("Asker")


@dataclass(frozen=True, slots=True, eq=False)
class GuideOrder(Generic[Asker]):
    """A guide that somebody waits for, past the tokens that the answer has.

    key: the higher is made sooner, the earlier asked for where keys are equal.
    """

    lease_id: str
    asker: Asker
    key: float
    grammar: str
    output_token_ids: list[int]


@dataclass(frozen=True, slots=True)
class GuideMade(Generic[Asker]):
    """What came of an order: the guide, or why there is none."""

    order: GuideOrder[Asker]
    outcome: Guide | GrammarRefused


class GuideMaker(Generic[Asker]):
    """Makes one guide at a time, best key first. It holds an order until it is taken, or dropped.

    grammars: None where the engine follows none. max_waiting: orders that wait; more are refused.
    """

    def __init__(self, grammars: Grammars | None, max_waiting: int) -> None:
        self._grammars = grammars
        self._max_waiting = max_waiting
        self._changed = threading.Condition()  # guards what follows
        self._waiting: dict[str, GuideOrder[Asker]] = {}
        self._current: GuideOrder[Asker] | None = None
        self._made: dict[str, GuideMade[Asker]] = {}
        self._is_closed = False

    @property
    def has_made(self) -> bool:
        """Whether `take` would give anything."""
        return bool(self._made)

    @property
    def lease_ids(self) -> list[str]:
        """Whose orders it holds."""
        with self._changed:
            current = [] if self._current is None else [self._current.lease_id]
            return [*self._made, *current, *self._waiting]

    def ask(self, order: GuideOrder[Asker]) -> None:
        """It is made when it is next, and comes with `take`.

        Raises:
            GrammarUnserved: too many wait, or nobody can make it.
        """
        if self._grammars is None:
            raise GrammarUnserved("this engine follows none")
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                raise GrammarUnserved(f"{len(self._waiting)} others wait for theirs to be compiled")
            self._waiting[order.lease_id] = order
            self._changed.notify()

    def drop(self, lease_id: str) -> bool:
        """Nobody waits for it any more; False where nobody did. What is being compiled is compiled to its end."""
        with self._changed:
            is_current = self._current is not None and self._current.lease_id == lease_id
            if is_current:
                self._current = None
            return is_current or bool(self._waiting.pop(lease_id, None) or self._made.pop(lease_id, None))

    def take(self) -> list[GuideMade[Asker]]:
        """What was made since the last call."""
        with self._changed:
            made, self._made = self._made, {}
        return list(made.values())

    def make_one(self, on_made: Callable[[], None] = lambda: None) -> bool:
        """Make the best order's guide; False where nobody waits."""
        with self._changed:
            if not self._waiting:
                return False
            order = self._current = max(self._waiting.values(), key=lambda each: each.key)
            del self._waiting[order.lease_id]
        outcome = self._outcome(order)
        with self._changed:
            if self._current is order and not self._is_closed:
                self._made[order.lease_id] = GuideMade(order, outcome)
                on_made()
            self._current = None
        return True

    @contextmanager
    def beside(self, on_made: Callable[[], None]) -> Iterator[None]:
        """Makes what is asked for inside, in a thread. on_made: called there after each, and never once this has ended.

        A compilation cannot be interrupted, and is not waited for.
        """
        threading.Thread(target=self._make_all, args=(on_made,), name="guides", daemon=True).start()
        try:
            yield
        finally:
            with self._changed:
                self._is_closed = True
                self._changed.notify()

    def _make_all(self, on_made: Callable[[], None]) -> None:
        while self._await_order():
            self.make_one(on_made)

    def _await_order(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            return not self._is_closed

    def _outcome(self, order: GuideOrder[Asker]) -> Guide | GrammarRefused:
        assert self._grammars is not None
        try:
            return self._grammars.guide(order.grammar, order.output_token_ids)
        except GrammarRefused as refusal:
            return refusal
        except BaseException:  # a panic of the library's is one: it ends this order, and not the thread
            _log.exception("a grammar could not be compiled")
            return GrammarRefused("it is too complex")
