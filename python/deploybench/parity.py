"""Whether two runtimes gave the same answer. The tolerances stand here, once, a reason a row."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy


@dataclass(frozen=True)
class Tolerance:
    """How far an output may lie from eager's, and why so far."""

    probability: float  # of any class, absolute
    logits: float  # largest difference over the largest |logit| of eager
    why: str
    cosine: float = 0.0  # of the logits with eager's, at least
    top: int = 5  # how many of the first classes must be the same


SLACK = 0.01  # of probability: classes that eager holds closer than twice this may change places
MOST = 1e9  # a logit that is off by more is no less wrong; of a reference of zeros it would be endless
LOW = "8 bits of mantissa: probabilities move, the first class and the direction of the logits must not"
TOLERANCES = {
    ("fp32", "cpu"): Tolerance(1e-5, 1e-4, "the order of sums differs between kernels"),
    ("fp32", "cuda"): Tolerance(
        2e-3, 5e-3, "`generate` and Python's `infer` keep torch's default: convolutions in TF32 (10 bits)"
    ),
    ("bf16", "cpu"): Tolerance(0.05, math.inf, LOW, cosine=0.999, top=1),
    ("bf16", "cuda"): Tolerance(0.05, math.inf, LOW, cosine=0.999, top=1),
    ("fp16", "cuda"): Tolerance(0.02, math.inf, LOW.replace("8", "11"), cosine=0.999, top=1),
}


@dataclass(frozen=True)
class Parity:
    """The differences found, and the verdict."""

    ok: bool
    reason: str  # empty when ok
    max_probability_difference: float
    max_logit_difference: float  # over the largest |logit| of the reference
    top5_equal: bool  # same classes in the same order; equal classes may change places
    top1_equal: bool  # the same for the first alone
    cosine: float  # of the logits with eager's, the least over the images

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
    """`candidate` against the `reference` of eager at fp32, both logits [N, classes]."""
    tolerance = TOLERANCES[precision, device]
    if reference.shape != candidate.shape:
        return _failed(f"shape {list(candidate.shape)} is not eager's {list(reference.shape)}")
    if not numpy.isfinite(candidate).all():
        return _failed("the output holds NaN or infinity")
    if not numpy.isfinite(reference).all():
        return _failed("eager's own output holds NaN or infinity")
    expected, found = softmax(reference), softmax(candidate)
    probability = float(abs(expected - found).max())
    logits = min(float(abs(reference - candidate).max() / max(abs(reference).max(), 1e-30)), MOST)
    cosine = _cosine(reference, candidate)
    slack = min(tolerance.probability, SLACK)
    top5, top1 = (_same_order(expected, found, top_k(reference, k), top_k(candidate, k), slack) for k in (5, 1))
    reason = ""
    if not (top5 if tolerance.top == 5 else top1):
        reason = f"another top {tolerance.top} than eager's"
    elif cosine < tolerance.cosine:
        reason = f"cosine of the logits {cosine:.5f}, at least {tolerance.cosine}"
    elif probability > tolerance.probability:
        reason = f"probabilities differ by {probability:.1e}, allowed {tolerance.probability:.0e}"
    elif logits > tolerance.logits:
        reason = f"logits differ by {logits:.1e} of the largest, allowed {tolerance.logits:.0e}"
    return Parity(not reason, reason, probability, logits, top5, top1, cosine)


def _cosine(reference: numpy.ndarray, candidate: numpy.ndarray) -> float:
    a, b = reference.astype(numpy.float64), candidate.astype(numpy.float64)
    products = (a * b).sum(axis=1) / numpy.maximum(numpy.linalg.norm(a, axis=1) * numpy.linalg.norm(b, axis=1), 1e-300)
    return float(products.min())


def _failed(reason: str) -> Parity:
    return Parity(False, reason, 1.0, 1.0, False, False, 0.0)


def _same_order(
    expected: numpy.ndarray, found: numpy.ndarray, ours: numpy.ndarray, theirs: numpy.ndarray, slack: float
) -> bool:
    """Whether at each rank stands the same class, or one that eager holds equal within `slack`, or one that the candidate
    itself holds equal: at bf16, logits near 8 are 0.06 apart, and 0.279 against 0.257 may both become 0.254."""
    (eager_ours, eager_theirs), (ours_found, theirs_found) = (
        [numpy.take_along_axis(values, ranks, 1) for ranks in (ours, theirs)] for values in (expected, found)
    )
    return bool(((abs(eager_ours - eager_theirs) <= 2 * slack) | (ours_found == theirs_found)).all())
