"""Owns trying a grammar where it can harm nobody: in a process of its own, which ends when it takes too long.

Knows nothing of HTTP or of who asks. A process loads the vocabulary once and forks for each trial; the fork compiles
the grammar and takes its first steps. What passes here may go to an engine, which cannot interrupt a compilation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeAlias

from llguidance import LLMatcher, LLTokenizer

from engine.grammar import GrammarRefused, GrammarTooCostly, Vocabulary, compiled, shortened

MAX_CPU_S = 0.2
MAX_EXTRA_BYTES = 1 << 30
MAX_ANSWER_S = 20.0  # of the clock, the start included
MAX_KEPT_VERDICTS = 1024
NUM_FIRST_STEPS = 16
_ROOT = Path(__file__).parents[1]
_READ_BYTES = 4096
#: Why one of some grammars is refused, empty where none is; whether that is for its cost; and which it is, if known.
Verdict: TypeAlias = tuple[str, bool, int | None]
PASSED: Verdict = ("", False, None)


class TrialBroken(RuntimeError):
    """The process that tries grammars does not answer. The next trial starts another; nobody is to blame but us."""


class GrammarTrial:
    """One vocabulary's. The process starts with the first trial and ends with this one; threads take turns."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()

    @property
    def num_kept(self) -> int:
        return len(self._verdicts)

    def check(self, grammar: str) -> None:
        """Blocks until the grammar has been tried, now or before.

        Raises:
            GrammarRefused: it is wrong, or nothing fits it.
            GrammarTooCostly: it takes more than `MAX_CPU_S` of a processor, or too much memory.
            TrialBroken: nobody can say.
        """
        reason, is_costly, _ = self._verdict([grammar])
        if reason:
            raise (GrammarTooCostly if is_costly else GrammarRefused)(reason)

    def first_refused(self, grammars: Sequence[str]) -> int | None:
        """Which of these is the first that would be refused. All together have the time and the memory of one: where
        they take more, nobody can say, and it is None, as where none is refused.

        Raises:
            TrialBroken: nobody can say.
        """
        return self._verdict(grammars)[2]

    def close(self) -> None:
        """Ends the process."""
        with self._turn:
            self._end()

    def _verdict(self, grammars: Sequence[str]) -> Verdict:
        digest = hashlib.sha256(json.dumps(grammars).encode()).digest()
        with self._turn:
            verdict = self._verdicts.get(digest)
            if verdict is None:
                verdict = self._tried(grammars)
            self._verdicts[digest] = verdict
            self._verdicts.move_to_end(digest)
            if len(self._verdicts) > MAX_KEPT_VERDICTS:
                self._verdicts.popitem(last=False)
        return verdict

    def _tried(self, grammars: Sequence[str]) -> Verdict:
        try:
            if self._process is None or self._process.poll() is not None:
                self._start()
            self._say(grammars)
            return self._heard()
        except (OSError, TrialBroken) as fault:
            self._end()
            raise TrialBroken(f"a grammar could not be tried: {fault}") from fault

    def _start(self) -> None:
        self._end()
        paths = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine.grammar_trial"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        )
        self._say([self._vocabulary.definition, self._vocabulary.eos_token_ids])

    def _say(self, what: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()

    def _heard(self) -> Verdict:
        assert self._process is not None
        assert self._process.stdout is not None
        heard, until_s = b"", time.monotonic() + MAX_ANSWER_S
        while not heard.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(0.0, until_s - time.monotonic()))[0]:
                raise TrialBroken(f"no answer within {MAX_ANSWER_S:g} s")
            if not (data := os.read(self._process.stdout.fileno(), _READ_BYTES)):
                raise TrialBroken("the process has ended")
            heard += data
        reason, is_costly, place = json.loads(heard)
        return reason, is_costly, place

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not flushed yet
                    pipe.close()
        self._process = None


def try_out(tokenizer: LLTokenizer, grammar: str) -> None:
    """Compiles the grammar and takes its first steps: what can never begin is found out here.

    Raises:
        GrammarRefused: there is no answer, or none within the limits.
    """
    matcher = compiled(tokenizer, grammar)
    for _ in range(NUM_FIRST_STEPS):
        mask = matcher.compute_bitmask()
        if matcher.is_error():
            raise GrammarRefused(_first_step_failed(matcher))
        if matcher.is_stopped():
            return
        matcher.consume_token(_any_of(mask, tokenizer.eos_tokens))
    if matcher.is_error():
        raise GrammarRefused(_first_step_failed(matcher))


def _first_step_failed(matcher: LLMatcher) -> str:
    reason = shortened(matcher.get_error())
    return "no answer fits it" if reason.startswith("NoExtension") else reason or "it cannot be followed"


def _any_of(mask: bytes, ends: list[int]) -> int:
    """An allowed token; an end only where nothing else is allowed."""
    allowed = (8 * place + bit for place, byte in enumerate(mask) if byte for bit in range(8) if byte >> bit & 1)
    return next((token_id for token_id in allowed if token_id not in ends), ends[0])


def main(asked: BinaryIO, answers: BinaryIO) -> None:
    """The process's life: a vocabulary, then lists of grammars, a JSON text a line, until the other side has closed."""
    definition, ends = json.loads(asked.readline())
    try:
        tokenizer = Vocabulary(definition, tuple(ends)).tokenizer()
    except GrammarRefused as refusal:
        for _ in asked:
            _answer(answers, (str(refusal), False, None))
        return
    for line in asked:
        child = os.fork()
        if child == 0:
            _try_and_exit(tokenizer, json.loads(line), answers)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            slow = os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGXCPU)
            reason = f"it takes more than {MAX_CPU_S:g} s to compile" if slow else "it is too complex"
            _answer(answers, (reason, True, None))


def _try_and_exit(tokenizer: LLTokenizer, grammars: Sequence[str], answers: BinaryIO) -> NoReturn:
    """The system ends the process where the time or the memory is used up, whatever it does at that moment."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_EXTRA_BYTES, used + MAX_EXTRA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, MAX_CPU_S)
    verdicts = (_verdict_on(tokenizer, grammar, place) for place, grammar in enumerate(grammars))
    verdict = next((verdict for verdict in verdicts if verdict != PASSED), PASSED)
    signal.setitimer(signal.ITIMER_PROF, 0)
    _answer(answers, verdict)
    os._exit(0)


def _verdict_on(tokenizer: LLTokenizer, grammar: str, place: int) -> Verdict:
    try:
        try_out(tokenizer, grammar)
    except GrammarRefused as refusal:
        return str(refusal) or "it cannot be followed", False, place
    except BaseException:  # a fault of the library's: this process is one trial's, and says so
        return "it is too complex", True, place
    return PASSED


def _answer(answers: BinaryIO, verdict: Verdict) -> None:
    answers.write(json.dumps(verdict).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
