"""What a reader of results takes for granted, and whether a file, which anybody may have written or cut, has it. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from deploybench import record

# What a number of seconds, bytes or calls can be: beyond these, sums and quotients of such numbers may be infinite.
LEAST, MOST = 1e-12, 1e18


def _number(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= MOST


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(_number(one) and one >= LEAST for one in value)


def texts(value: object) -> bool:
    """A list of strings."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


# What a reader of results takes for granted, by part of the file: field -> check.
Checks = dict[str, Callable[[Any], bool]]
TEXT: Callable[[Any], bool] = lambda value: isinstance(value, str)  # noqa: E731 (a row of the table)
TEXT_OR_NULL: Callable[[Any], bool] = lambda value: value is None or isinstance(value, str)  # noqa: E731
BOOLEAN: Callable[[Any], bool] = lambda value: isinstance(value, bool)  # noqa: E731
RESULTS: Checks = {"complete": BOOLEAN}
CONFIG: Checks = {"runners": texts, "device": TEXT, "threads": _number, "batch_size": _number}
ENVIRONMENT: Checks = {
    "cpus": _number, "load_average_1min": _number,
    **dict.fromkeys(("host", "cpu", "gpu", "python", "torch", "torchvision", "libtorch"), TEXT_OR_NULL),
}  # fmt: skip
RUN: Checks = {"model": TEXT, "runner": TEXT, "round": _number}
MEASURED: Checks = {
    "run_seconds": lambda value: _numbers(value) and value != [],
    "warmup_seconds": _numbers,
    "turn_calls": lambda value: _numbers(value) and all(isinstance(one, int) for one in value),
    **dict.fromkeys(("batch_size", "load_seconds", "cold_start_seconds", "peak_rss_bytes", "artifact_bytes"), _number),
}
COUNTED: Checks = {"model": TEXT, "runner": TEXT, "batch_size": _number}
COUNTS: Checks = {
    "counter": TEXT,
    "runner": lambda value: TEXT(value) and value.partition("/")[0] in ("python", "cpp"),
    "calls": lambda value: _numbers(value) and len(value) == 2 and value[0] < value[1],
    "counts": lambda value: _numbers(value) and len(value) == 2 and value[0] < value[1],
}
FAILED: Checks = {"code": TEXT, "message": TEXT}
PARITY: Checks = {"ok": BOOLEAN, "reason": TEXT}
POSITIVE: Callable[[Any], bool] = lambda value: type(value) is int and value > 0  # noqa: E731
NUMBER_OR_NULL: Callable[[Any], bool] = lambda value: value is None or _number(value)  # noqa: E731
# Fields that older files or another tool's lack, and that are no less wrong where they are there.
MAY_HAVE: dict[str, Checks] = {
    "results": dict.fromkeys(("stolen_fraction", "others_fraction"), _number),
    "config": {
        "batch_sizes": lambda value: _numbers(value) and value != [], "instances": _number, "rounds": _number,
        **dict.fromkeys(("rate", "latency_bound"), NUMBER_OR_NULL),
    },
    "environment": {
        **dict.fromkeys(("cpu_quota", "memory_bytes"), NUMBER_OR_NULL), **dict.fromkeys(("governor", "os"), TEXT_OR_NULL),
        "turbo": lambda value: value is None or isinstance(value, bool),
    },
    "run": {
        **dict.fromkeys(("threads", "interop_threads", "instances"), POSITIVE),
        **dict.fromkeys(("route", "precision", "device", "memory_format", "torch_version", "cpu_capability", "toolchain"), TEXT),
        **dict.fromkeys(("input_crc32", "artifact", *record.KNOBS), TEXT),
        **dict.fromkeys(("build_type", "weights_origin"), TEXT_OR_NULL),
        "warmup_steady": BOOLEAN, "warnings": texts, **dict.fromkeys(("settle_seconds", "turn_seconds"), _numbers),
        "turn_rates": lambda value: value is None or _numbers(value),
    },
    "parity": {"cosine": lambda value: isinstance(value, int | float) and math.isfinite(value), "max_logit_difference": _number},
}  # fmt: skip


def flaw(results: object) -> str:
    """What is wrong with the content of a results file, which anybody may have written or cut; empty when nothing is."""
    if not isinstance(results, dict) or results.get("schema") != record.SCHEMA:
        schema = results.get("schema") if isinstance(results, dict) else None
        return f"it has schema {str(schema)[:20]}, this program reads {record.SCHEMA}"
    runs = results.get("runs")
    if not isinstance(runs, list):
        return "runs is no list"
    parts: list[tuple[str, object, Checks]] = [
        ("results", results, RESULTS),
        ("config", results.get("config"), CONFIG),
        ("environment", results.get("environment"), ENVIRONMENT),
    ]
    named = {"results": results, "config": results.get("config"), "environment": results.get("environment")}
    parts += [(name, part, that_it_has(part, name)) for name, part in named.items()]
    for index, run in enumerate(runs):
        where, fields = f"runs[{index}]", run if isinstance(run, dict) else {}
        parts.append((where, run, RUN))
        if "error" in fields:
            parts.append((f"{where}.error", fields["error"], FAILED))
        else:
            parts.append((where, run, MEASURED))
        if fields.get("parity") is not None:
            parity = fields["parity"]
            parts.append((f"{where}.parity", parity, {**PARITY, **that_it_has(parity, "parity")}))
    counted = results.get("instructions", [])
    if not isinstance(counted, list):
        return "instructions is no list"
    for index, line in enumerate(counted):
        where, failed = f"instructions[{index}]", isinstance(line, dict) and "error" in line
        parts += [
            (where, line, COUNTED),
            (f"{where}.error", line["error"], FAILED) if failed else (where, line, COUNTS),
        ]
    if why := first_wrong(parts):
        return why
    measured = [(f"runs[{index}]", run) for index, run in enumerate(runs) if "error" not in run]
    return first_wrong([(where, run, that_it_has(run, "run")) for where, run in measured])


def that_it_has(part: object, name: str) -> Checks:
    """The checks of the fields that may lack and do not; of a run also whether its turns agree with its calls."""
    if not isinstance(part, dict):
        return {}
    found = {field: check for field, check in MAY_HAVE[name].items() if field in part}
    if name == "run":
        calls, turns = len(part["run_seconds"]), len(part["turn_calls"])
        found["turn_calls"] = lambda value: sum(value) == calls
        for field in ("turn_seconds", "turn_rates"):
            if part.get(field) is not None:
                found[field] = lambda value: _numbers(value) and len(value) == turns
        if part.get("instances", 1) != 1 and not part.get("turn_rates"):  # the times are those of whole turns
            found["turn_seconds"] = lambda value: _numbers(value) and len(value) == turns > 0
    return found


def first_wrong(parts: list[tuple[str, object, Checks]]) -> str:
    """The first field that fails its check, of parts given by their place, content and checks; empty when none does."""
    for where, part, checks in parts:
        for field, check in checks.items():
            if not isinstance(part, dict) or field not in part or not check(part[field]):
                return f"{where}.{field} is not what bench writes"
    return ""
