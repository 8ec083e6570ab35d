"""CUDA graphs: the kernels of one call recorded and then launched together, so that the host's time per kernel (about 5 us)
is paid once. Twin of cpp/deploybench/cuda.hpp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploybench.errors import DeploybenchError, first_line

if TYPE_CHECKING:
    import torch

    from deploybench.routes import Forward

CALLS_BEFORE = 3  # TorchScript profiles in the first and compiles in the second, which no graph can record


class Replayed:
    """`forward` as a graph, which is recorded in the first call, on zeros: an answer to the images shows that they were read.
    The graph is for that call's shape; its output is valid until the next call."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._graph: torch.cuda.CUDAGraph | None = None
        self._input: torch.Tensor
        self._output: torch.Tensor

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [N, 3, H, W] on the GPU -> float32 [N, classes]."""
        if self._graph is None:
            self._graph = self._record(images)
        self._input.copy_(images)
        self._graph.replay()
        return self._output

    def _record(self, images: torch.Tensor) -> torch.cuda.CUDAGraph:
        import torch

        self._input = torch.zeros_like(images)
        stream = torch.cuda.Stream()  # the default one cannot be recorded
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(CALLS_BEFORE):
                self._forward(self._input)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=stream):
                self._output = self._forward(self._input)
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise
            why = first_line(error.__context__ or error)  # leaving the block may fail once more, for the same reason
            raise DeploybenchError(
                "runtime", f"--cuda-graph on: this model cannot be recorded ({why}); use --cuda-graph off"
            ) from error
        return graph
