"""Records and repeats work on CPU as a CUDA graph does on a GPU: what was not in a tensor that stays is not seen again.

Knows nothing of decodes. Shipped with the tests of whatever is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.cuda.decode_graphs import NotCapturable, Replay

#: Operators for which the host would wait for the device.
_WAITING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


@dataclass
class Tape(TorchDispatchMode):
    """Every operator that ran, with its arguments; they run again on the same tensors and leave their results there."""

    calls: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _WAITING or (func is torch.ops.aten.index.Tensor and _is_mask(args[1])):
            raise NotCapturable(f"{func} waits for the device")
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.inference_mode()
    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():  # else a view, or changed in place
                    old.copy_(new)


def _is_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)


@dataclass(slots=True)
class TapeRecorder:
    """A `Recorder`. num_replays: how often anything that it recorded has run again."""

    num_replays: int = 0

    def record(self, work: Callable[[], None]) -> Replay:
        work()
        tape = Tape()
        with tape:
            work()

        def replay() -> None:
            self.num_replays += 1
            tape.replay()

        return replay
