"""A player's turn as a CUDA graph: recorded once, then replayed by one launch in place of hundreds."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

BY_HAND_FIRST = 3  # turns of a kind before it is recorded: libraries and optimizers have then set themselves up

Turn = Callable[..., dict[str, Tensor]]


class RecordedTurn:
    """A turn's work on the device: from a batch to the turn's terms and the gradients of its player.

    What Python does in a turn it did once, when this was recorded; kernels run at each replay, and read and write the same
    memory: weights, buffers and the state of random numbers are those of the moment.

    Args:
        turn: from a batch to terms (scalars, or [K] of an ensemble); leaves gradients in `parameters`.
        batch: (real, labels or None, …), what the turn is called with; every other batch must have its shapes.
        pool: of memory, shared with the other turns.

    Raises:
        ValueError: the turn waits for a number from the device, or its shapes depend on one.
    """

    def __init__(self, turn: Turn, parameters: list[nn.Parameter], batch: tuple[Tensor | None, ...], pool):
        self.parameters = parameters
        self.batch = [None if part is None else part.clone() for part in batch]
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
                terms = turn(*self.batch)
                self.values = torch.stack(list(terms.values()))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            why = error.__context__ or error  # the end of a recording that failed raises once more, without the reason
            raise ValueError(
                f"a turn cannot become a CUDA graph ({str(why).strip().splitlines()[0]}); leave out gan.cuda_graphs"
            ) from error
        self.names = list(terms)
        self.gradients = [p.grad for p in parameters]

    def replay(self, *batch: Tensor | None) -> dict[str, Tensor]:
        """The turn on this batch: its terms; the gradients lie in the parameters."""
        for own, given in zip(self.batch, batch):
            if own is not None:
                own.copy_(given)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient
        return dict(zip(self.names, self.values.clone()))  # the next replay writes over the values


class Graphs:
    """One recorded turn for each kind of turn, made once that kind has been played by hand a few times."""

    def __init__(self):
        # Of a run that failed before in this process: in some versions of torch a graph that goes takes the workspace of
        # all that were recorded on its stream with it (pytorch/pytorch#193402).
        gc.collect()
        self.pool = torch.cuda.graph_pool_handle()
        self.played: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, RecordedTurn] = {}

    def forward_pass(
        self, kind: Hashable, turn: Turn, parameters: list[nn.Parameter], *batch: Tensor | None
    ) -> dict[str, Tensor]:
        """The turn's terms on this batch; its gradients lie in the parameters. `kind`: all that changes the turn."""
        kind = (kind, batch[0].shape, batch[0].dtype)
        if kind not in self.recorded:
            self.played[kind] += 1
            if self.played[kind] <= BY_HAND_FIRST:
                return turn(*batch)
            self.recorded[kind] = RecordedTurn(turn, parameters, batch, self.pool)
        return self.recorded[kind].replay(*batch)
