"""The figures of the page: what each shows, which entries it wants, the columns of its table. `charts` says how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploybench import charts
from deploybench.charts import Spec


@dataclass(frozen=True)
class Figure:
    """`scope`: the entries it shows: of the `page` at the chosen setting, of the chosen `model` at all settings, or of the
    model at the `setting`. It is shown where an entry has a number in each of `needs`, and `distinct` has two values or more;
    of a model at all settings only those that agree with the chosen one in `same`.
    `sort`: the number by which entries are ordered, the smallest first. `columns`: those of its table, beside the runner.
    `cell`: pixels that a runner needs in width, where the figure must be wide or a small screen scroll."""

    name: str
    title: str
    caption: str
    chart: Spec
    columns: tuple[str, ...]
    needs: tuple[str, ...]
    scope: str = "setting"
    sort: str | None = None
    distinct: str | None = None
    same: tuple[str, ...] = ()
    data: str = "entries"
    cell: int = 0
    third: bool = False  # a third of the page in width, not a half


LATENCY = ("median", "median_low", "median_high")
SPEEDUP = ("speedup", "speedup_low", "speedup_high")
# Prices of speed: a number of an entry, its axis. What records tell of accuracy on a data set, or of the size of libraries,
# gets a row here and a column in summary.COLUMNS.
PRICES: tuple[tuple[str, str, str, str, dict[str, Any], str], ...] = (
    (
        "agreement", "Latency and agreement", "disagreement", "largest difference of logits, relative, logarithmic",
        {"type": "log", "nice": False},
        "Outputs against eager's at fp32: to the left agrees more, below is faster. What agrees to the last bit has no place here.",
    ),
    (
        "accuracy", "Latency and accuracy", "top1", "top-1, %", {"zero": False},
        "Of the photos that evaluate saw: to the right is right more often, below is faster.",
    ),
    (
        "size", "Latency and size of the file", "artifact", "artifact, MB", {"zero": True},
        "Below and to the left is better: the file is what is shipped.",
    ),
    (
        "memory", "Latency and memory", "peak_rss", "peak RSS, MB", {"zero": True},
        "The largest memory of the whole process: in Python with its interpreter and every library.",
    ),
)  # fmt: skip

FIGURES = (
    Figure(
        "heatmap", "Models by runners", "How many times as fast as eager a call is. Bold: the fastest. A click shows the model below.",
        charts.HEATMAP, ("model", *SPEEDUP, "median"), ("speedup",), scope="page", distinct="model", cell=36,
    ),
    Figure(
        "peers", "The best of C++ against the best peer",
        "Time of our call over that of ONNX Runtime or OpenVINO, with its 95 % interval: to the left of 1 ours is faster.",
        charts.ratios("model", "ratio", "low", "high", "model", "precision", "ours", "peer"),
        ("model", "precision", "ours", "ours_ms", "peer", "peer_ms", "ratio", "low"), ("ratio",), scope="page", data="peers",
    ),
    Figure(
        "latency", "Latency by runner", "Median of all timed calls and its 95 % interval, the fastest first.",
        charts.LATENCY, (*LATENCY, "p90", "p99", *SPEEDUP), ("median", "fastest"), sort="median",
    ),
    Figure(
        "calls", "Single calls", "A tick is a timed call; of more than 101 an even choice, with the extremes. Thick: the median.",
        charts.CALLS, ("fastest", "p25", "median", "p75", "p90", "p99", "slowest", "calls"), ("median", "fastest"), sort="median",
    ),
    Figure(
        "warmup", "Warm-up", "The first calls of a process, median over rounds. Point at a line to see it alone.",
        charts.WARMUP, ("first_call", "second_call", "third_call", "fifth_call", "median", "steady_from_call"),
        ("median", "fastest"), sort="median",
    ),
    Figure(
        "cold", "Cold start", "From the start of the process to its answer. Pale: process and libraries; middle: the file; full: call 1.",
        charts.COLD, ("cold_start", "cold_rest", "load", "first_call"), ("cold_start", "cold_rest"), sort="cold_start",
    ),
    Figure(
        "many", "Throughput", "Images a second of all instances together, at the size of batches that was chosen.",
        charts.MANY, ("images_per_second", "batch_size", "instances", "threads"), ("many",), sort="median",
    ),
    Figure(
        "batches", "Throughput and batch size", "Images a second by the images of a call, at the instances and threads that are chosen.",
        charts.curve("batch_size", "images a call"), ("batch_size", "images_per_second", "median", "instances", "threads"),
        ("images_per_second", "fastest"), scope="model", distinct="batch_size",
        same=("instances", "threads"),
    ),
    Figure(
        "instances", "Throughput and instances", "Images a second by the instances that call at once, at the batch size that is chosen.",
        charts.curve("instances", "instances"), ("instances", "threads", "images_per_second", "median", "batch_size"),
        ("images_per_second", "fastest"), scope="model", distinct="instances",
        same=("batch_size",),
    ),
    Figure(
        "load", "Latency under load", "Images arrive by themselves, and 99 of 100 answers took at most so long. Dashed: the bound.",
        charts.LOAD, ("images_per_second", "most", "median", "p90", "p99"), ("load_top",),
    ),
    Figure(
        "twins", "C++ against Python",
        "Time of a call in C++ over that in Python, on the same file, with its 95 % interval: to the left of 1 C++ is faster.",
        charts.ratios("runner", "twin", "twin_low", "twin_high", "runner"), ("twin", "twin_low", "twin_high"), ("twin",),
    ),
    *(
        Figure(
            name, title, caption, charts.against(field, axis, **scale), ("median", field), ("median", "fastest", field),
            sort="median", third=True,
        )
        for name, title, field, axis, scale, caption in PRICES
    ),
)  # fmt: skip
