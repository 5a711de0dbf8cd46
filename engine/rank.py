"""Owns what one tensor-parallel rank does: load its part, then lead (rank 0) or follow. Knows nothing of Ray.

Whoever runs it gives every rank a process of its own and calls `load` on all of them, then `run` on all of them. When a
rank dies, however it dies, the processes of the others end too.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING

from engine.checkpoint import CheckpointError, resolve
from engine.config import EngineConfig, threads_per_rank
from engine.grammar import GrammarRefused, Grammars, Vocabulary
from engine.loop import EngineLoop
from engine.own_thread import OwnThread
from engine.protocol import EngineCapacity, InferenceEngine
from engine.watchdog import StepWatchdog
from engine.wire import RankChannel, serve_loop

if TYPE_CHECKING:
    from engine.backends.deepspeed import FollowingRank


_log = logging.getLogger(__name__)

#: How long a thread that waits for the others keeps its core. Libgomp's own 300,000 starve the processes that stream.
_SPIN_COUNT = "20000"


class Rank:
    """One rank of one replica. What the backend needs is imported by `load`, so making a rank costs nothing."""

    def __init__(self, config: EngineConfig, rank: int) -> None:
        self._config = config
        self._rank = rank
        self._leader: InferenceEngine | None = None
        self._follower: FollowingRank | None = None
        self._grammars = Grammars(partial(_vocabulary, config))
        self._thread = OwnThread("engine")

    def load(self, master_addr: str, master_port: int) -> EngineCapacity:
        """Meets the other ranks at an address that is this replica's alone, and loads; returns when all have.

        Raises:
            CheckpointError, InsufficientMemory: the model cannot be served like this; the message says why.
        """
        return self._thread.call(self._load, master_addr, master_port)

    def _load(self, master_addr: str, master_port: int) -> EngineCapacity:
        if self._config.backend == "fake":
            from engine.backends.fake import FakeEngine

            self._leader = FakeEngine(self._config)
            return self._leader.capacity()
        _set_environment(self._config)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # whatever this process has inherited
        from engine.backends.deepspeed import DeepSpeedEngine, FollowingRank, load_rank

        loaded = load_rank(self._config, self._rank, master_addr, master_port)
        if self._rank == 0:
            self._leader = DeepSpeedEngine(loaded)
            self._warm_grammars()
        else:
            self._follower = FollowingRank(loaded)
        return loaded.capacity

    def _warm_grammars(self) -> None:
        """Now, and not in the first step that follows one."""
        try:
            self._grammars.warm()
        except GrammarRefused as refusal:
            _log.warning("answers cannot follow a grammar: %s", refusal)

    def run(self, socket_path: str) -> None:
        """Rank 0 binds the Unix socket, serves the one replica that connects until it hangs up, and lets the others
        go; these follow until then. The file is gone as soon as the replica has connected.

        Raises:
            EngineFailed, RuntimeError: the engine is broken, or another rank is gone. The process should end.
        """
        self._thread.call(self._run, socket_path)

    def _run(self, socket_path: str) -> None:
        if self._leader is not None:
            self._lead(self._leader, socket_path)
        elif self._follower is not None:
            self._follower.follow()
        else:
            raise RuntimeError(f"rank {self._rank}: run was called before load")

    def _lead(self, engine: InferenceEngine, socket_path: str) -> None:
        """After a fault nothing is closed: the other ranks may hang in a collective, and end with this process."""
        channel = RankChannel.listen(socket_path)
        watchdog = StepWatchdog(self._config.step_timeout_s)
        watchdog.start()
        loop = EngineLoop(engine, self._config, self._grammars, watch=watchdog.watching, tell=channel.send)
        serve_loop(loop, channel)
        watchdog.close()
        channel.close()
        engine.close()


def _vocabulary(config: EngineConfig) -> Vocabulary:
    """What the checkpoint's tokenizer says; raises GrammarRefused where it has none that can be read."""
    from engine.tokenizer import Tokenizer

    try:
        tokenizer = Tokenizer.load(resolve(config.source))
    except (CheckpointError, OSError, ValueError) as error:
        raise GrammarRefused(f"the tokenizer cannot be read: {error}") from error
    return tokenizer.vocabulary()


def _set_environment(config: EngineConfig) -> None:
    """What torch and DeepSpeed read once, when they are first imported: threads started later inherit it."""
    os.environ["DS_ACCELERATOR"] = config.device
    os.environ["OMP_NUM_THREADS"] = str(threads_per_rank(config))
    os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)
