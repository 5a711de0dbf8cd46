"""Records work as CUDA graphs that share one pool of memory. Knows nothing of decodes or models."""

from __future__ import annotations

from collections.abc import Callable

import torch

from engine.cuda.decode_graphs import NotCapturable, Replay

#: Other threads, nccl's watchdog above all, may ask the driver about their own work while this one records.
_ERROR_MODE = "thread_local"


class CudaRecorder:
    """One pool, one stream: graphs recorded later reuse the memory of earlier ones, since only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], None]) -> Replay:
        """Runs the work once, so that libraries set themselves up outside the recording, then records it."""
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        try:
            with torch.cuda.stream(self._stream):  # also what puts the old one back when a recording breaks off
                work()
                torch.cuda.synchronize(self._device)
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode=_ERROR_MODE):
                    work()
        except RuntimeError as error:  # the driver's, an operator's that cannot be recorded, or no memory
            raise NotCapturable(str(error.__context__ or error)) from error
        torch.cuda.synchronize(self._device)
        return graph.replay
