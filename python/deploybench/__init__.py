"""deploybench: take a trained PyTorch image classifier to production, in Python and in C++, and measure what each way costs.

Importing this package imports nothing heavy; torch is imported by the verbs that need it. The functions of the Python API
stand in api.py and come when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploybench.api import BenchResult, bench, generate, infer, preprocess, report
    from deploybench.errors import DeploybenchError
    from deploybench.result import Result

__version__ = "0.1.0"
__all__ = ["BenchResult", "DeploybenchError", "Result", "bench", "generate", "infer", "preprocess", "report"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("deploybench.api"), name)
    raise AttributeError(f"module 'deploybench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
