"""Whether two runtimes gave the same answer. The tolerances stand here, once, a reason a row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy


@dataclass(frozen=True)
class Tolerance:
    """How far an output may lie from eager's, and why so far."""

    probability: float  # of any class, absolute
    logits: float  # largest difference over the largest |logit| of eager
    why: str


TOLERANCES = {
    ("fp32", "cpu"): Tolerance(1e-5, 1e-4, "the order of sums differs between kernels"),
    ("fp32", "cuda"): Tolerance(2e-3, 5e-3, "cuDNN multiplies convolutions in TF32 (10 bits) unless told otherwise"),
}


@dataclass(frozen=True)
class Parity:
    """The differences found, and the verdict."""

    ok: bool
    reason: str  # empty when ok
    max_probability_difference: float
    max_logit_difference: float  # over the largest |logit| of the reference
    top5_equal: bool  # same classes in the same order; classes closer than the tolerance may change places

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the record."""
        return asdict(self)


def softmax(logits: numpy.ndarray) -> numpy.ndarray:
    """Probabilities, float64 [N, classes], of logits [N, classes]."""
    shifted = logits.astype(numpy.float64) - logits.max(axis=1, keepdims=True)
    exponentials: numpy.ndarray = numpy.exp(shifted)
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def top_k(logits: numpy.ndarray, k: int) -> numpy.ndarray:
    """Indices [N, k] of the k most probable classes, the lower index first among equals."""
    return numpy.argsort(-logits, axis=1, kind="stable")[:, :k]


def compare(reference: numpy.ndarray, candidate: numpy.ndarray, precision: str, device: str) -> Parity:
    """`candidate` against eager's `reference`, both logits [N, classes]."""
    tolerance = TOLERANCES[precision, device]
    if reference.shape != candidate.shape:
        return _failed(f"shape {list(candidate.shape)} is not eager's {list(reference.shape)}")
    if not numpy.isfinite(candidate).all():
        return _failed("the output holds NaN or infinity")
    if not numpy.isfinite(reference).all():
        return _failed("eager's own output holds NaN or infinity")
    expected, found = softmax(reference), softmax(candidate)
    probability = float(abs(expected - found).max())
    logits = float(abs(reference - candidate).max() / max(abs(reference).max(), 1e-30))
    top5 = _same_order(expected, top_k(reference, 5), top_k(candidate, 5), tolerance.probability)
    reason = ""
    if not top5:
        reason = "another top 5 than eager's"
    elif probability > tolerance.probability:
        reason = f"probabilities differ by {probability:.1e}, allowed {tolerance.probability:.0e}"
    elif logits > tolerance.logits:
        reason = f"logits differ by {logits:.1e} of the largest, allowed {tolerance.logits:.0e}"
    return Parity(not reason, reason, probability, logits, top5)


def _failed(reason: str) -> Parity:
    return Parity(False, reason, 1.0, 1.0, False)


def _same_order(expected: numpy.ndarray, ours: numpy.ndarray, theirs: numpy.ndarray, slack: float) -> bool:
    """Whether at each rank stands the same class, or one that eager itself holds equal within `slack`."""
    gap = abs(numpy.take_along_axis(expected, ours, 1) - numpy.take_along_axis(expected, theirs, 1))
    return bool((gap <= 2 * slack).all())
