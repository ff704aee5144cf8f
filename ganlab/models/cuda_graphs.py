"""A training step's kernels as CUDA graphs: captured once, then replayed by one launch instead of hundreds."""

import gc
from collections import Counter
from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

WARMUP_STEPS = 3  # run without a graph before a step is captured: libraries and optimizers set themselves up in them

Terms = dict[str, Tensor]  # what a step minimizes the sum of, by name: scalars, or [K] in an ensemble
Step = Callable[..., Terms]


class StepGraph:
    """The captured kernels of one step, from its inputs to its terms and the gradients of the network it updates.

    Python ran once, at capture. A replay runs the kernels on the same memory, with the values that weights, buffers and
    the random state have then.

    Args:
        step: from the inputs to terms (scalars, or [K] in an ensemble); leaves gradients in `parameters`.
        inputs: (real, labels or None, latents or None); all later inputs must have these shapes.
        pool: memory shared with the other graphs.

    Raises:
        ValueError: the step reads a value from the device, or its shapes depend on one.
    """

    def __init__(self, step: Step, parameters: list[nn.Parameter], inputs: tuple[Tensor | None, ...], pool):
        self.parameters = parameters
        self.inputs = [None if tensor is None else tensor.clone() for tensor in inputs]
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
                terms = step(*self.inputs)
                self.values = torch.stack(list(terms.values()))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = error.__context__ or error  # a failed capture raises again at its end, without the reason
            raise ValueError(
                f"this training step cannot become a CUDA graph ({str(reason).strip().splitlines()[0]}); "
                "leave out gan.cuda_graphs"
            ) from error
        self.names = list(terms)
        self.gradients = [p.grad for p in parameters]

    def replay(self, *inputs: Tensor | None) -> Terms:
        """Run the step on these inputs; return its terms and leave the gradients in the parameters."""
        for static, tensor in zip(self.inputs, inputs):
            if static is not None:
                static.copy_(tensor)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient
        return dict(zip(self.names, self.values.clone()))  # the next replay overwrites the values


class StepGraphs:
    """One `StepGraph` per key, captured after the first `WARMUP_STEPS` steps with that key."""

    def __init__(self):
        # Free the graphs of a run that failed earlier in this process: in some versions of torch, freeing a graph frees the
        # workspace of all graphs captured on its stream (pytorch/pytorch#193402).
        gc.collect()
        self.pool = torch.cuda.graph_pool_handle()
        self.warmup: Counter[Hashable] = Counter()
        self.graphs: dict[Hashable, StepGraph] = {}

    def run(self, key: Hashable, step: Step, parameters: list[nn.Parameter], real: Tensor, *others: Tensor | None) -> Terms:
        """Run a step, by its graph if it has one; `key` must differ between steps that do different work."""
        key = (key, real.shape, real.dtype)
        if key not in self.graphs:
            self.warmup[key] += 1
            if self.warmup[key] <= WARMUP_STEPS:
                return step(real, *others)
            self.graphs[key] = StepGraph(step, parameters, (real, *others), self.pool)
        return self.graphs[key].replay(real, *others)
