"""How the figures of the page are drawn: Vega-Lite specifications, in the units of the columns. No data, no files, no words.

Colours are names of page.css, so that a picture follows the theme of its reader and of a printer without being drawn again.
`usermeta` says how many pixels each distinct value of a field takes in height: page.js makes the height of it.
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]
# In the order of the legend. Related ways have related colours in page.css.
ROUTES = ("eager", "script", "trace", "frozen", "fused", "compile", "aoti", "direct", "onnxruntime", "openvino")
HEAT = (0.95, 1.05, 1.25, 1.5, 2.0, 3.0, 5.0)  # the borders between the colours of the heat map, times as fast as eager
FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
ROW = 18  # pixels of a runner's row
MODEL_ROW = 24  # of a model's: two precisions beside each other
HEIGHT = 290
# Where logarithmic axes have lines: Vega's own are nine a decade.
TICKS = [step * 10.0**power for power in range(-3, 6) for step in (1, 2, 5)]
RATIOS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 3, 5, 10]
DECADES = [10.0**power for power in range(-17, 1)]
CONFIG: Spec = {
    "font": FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)", "titleColor": "var(--soft)", "gridColor": "var(--grid)", "domain": False, "ticks": False,
        "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelPadding": 6, "titlePadding": 8,
        "labelLimit": 220, "labelOverlap": True,
    },
    "axisY": {"labelColor": "var(--ink)"},
    "text": {"fontSize": 11, "color": "var(--ink)"},
}  # fmt: skip
# By the way to deploy; the legend is the page's own, and ways that it does not know are grey.
COLOUR: Spec = {
    "field": "shade", "type": "nominal", "legend": None,
    "scale": {"domain": [*ROUTES, "other"], "range": [*(f"var(--{route})" for route in ROUTES), "var(--soft)"]},
}  # fmt: skip
SHAPE: Spec = {
    "field": "precision", "type": "nominal", "legend": None,
    "scale": {"domain": ["fp32", "bf16", "fp16"], "range": ["circle", "diamond", "square"]},
}  # fmt: skip
DASH: Spec = {**SHAPE, "scale": {"domain": ["fp32", "bf16", "fp16"], "range": [[1, 0], [5, 3], [2, 2]]}}
FILLED: Spec = {"condition": {"test": "datum.runtime == 'cpp'", **COLOUR}, "value": "var(--paper)"}
RUNNER: Spec = {"field": "runner", "type": "nominal", "sort": None, "axis": {"title": None, "grid": False}}
BAND: Spec = {"type": "rule", "strokeWidth": 5, "opacity": 0.3, "strokeCap": "round"}  # an interval
TIPS = {
    "model": ("model", ""),
    "runner": ("runner", ""),
    "precision": ("precision", ""),
    "ours": ("C++", ""),
    "peer": ("peer", ""),
    "call": ("call", ""),
    "part": ("part", ""),
    "ms": ("ms", ".4~r"),
    "median": ("median, ms", ".4~r"),
    "median_low": ("95 % from, ms", ".4~r"),
    "median_high": ("to, ms", ".4~r"),
    "p99": ("p99, ms", ".3~r"),
    "speedup": ("times as fast as eager", ".3~r"),
    "images_per_second": ("images/s", ".3~r"),
    "latency": ("p99, ms", ",.3r"),
    "rate": ("images/s that arrive", ".3~r"),
    "artifact": ("file, MB", ".3~r"),
    "peak_rss": ("peak RSS, MB", ".3~r"),
    "disagreement": ("largest difference of logits", ".2~e"),
    "top1": ("top-1, %", ".4~r"),
    "batch_size": ("images a call", ""),
    "instances": ("instances", ""),
}


def _tooltip(*fields: str) -> list[Spec]:
    return [
        {"field": name, "title": TIPS[name][0], **({"format": TIPS[name][1]} if TIPS[name][1] else {})}
        for name in fields
    ]


def _x(field: str, title: str | None = None, **scale: Any) -> Spec:
    return {"field": field, "type": "quantitative", "axis": {"title": title, **_lines(scale)}, "scale": scale}


def _lines(scale: Spec) -> Spec:
    return {"values": TICKS, "format": ",~r"} if scale.get("type") == "log" else {"tickCount": 6, "format": ",~r"}


def _y(field: str, title: str, **scale: Any) -> Spec:
    """With its title above the axis, to be read without turning the head."""
    above = {
        "titleAngle": 0,
        "titleAlign": "left",
        "titleAnchor": "end",
        "titleBaseline": "bottom",
        "titleX": -30,
        "titleY": -8,
    }
    return {"field": field, "type": "quantitative", "axis": {"title": title, **_lines(scale), **above}, "scale": scale}


def _points(size: int = 60) -> Spec:
    return {"type": "point", "size": size, "strokeWidth": 1.75, "opacity": 1}


def _rows(*layers: Spec) -> Spec:
    """A row for each runner."""
    return {"usermeta": {"row": ROW, "of": "runner"}, "encoding": {"y": RUNNER, "color": COLOUR}, "layer": list(layers)}


def _value(field: str, at: str, places: str = ",.3r") -> list[Spec]:
    """The number to the right of what shows it, and place for it on the axis."""
    return [
        {
            "transform": [{"calculate": f"1.18 * datum['{at}']", "as": "room"}],
            "mark": {"type": "point", "opacity": 0, "tooltip": None},
            "encoding": {"x": {"field": "room", "type": "quantitative"}},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 9},
            "encoding": {
                "x": {"field": at, "type": "quantitative"},
                "text": {"field": field, "type": "quantitative", "format": places},
                "color": {"value": "var(--soft)"},
            },
        },
    ]


LATENCY = _rows(
    {"mark": BAND, "encoding": {"x": _x("median_low", "ms"), "x2": {"field": "median_high"}}},
    {
        "mark": _points(),
        "encoding": {
            "x": _x("median", "ms", zero=True), "shape": SHAPE, "fill": FILLED,
            "tooltip": _tooltip("runner", "median", "median_low", "median_high", "p99", "speedup"),
        },
    },
    *_value("median", "top", ",.4r"),
)  # fmt: skip

CALLS = _rows(
    {
        "transform": [{"flatten": ["call_times"], "as": ["ms"]}],
        "mark": {"type": "tick", "thickness": 1, "height": 11, "opacity": 0.38, "tooltip": None},
        "encoding": {"x": _x("ms", "ms, logarithmic", type="log", nice=False)},
    },
    {
        "mark": {"type": "tick", "thickness": 2.5, "height": 15, "opacity": 1},
        "encoding": {"x": _x("median", "ms, logarithmic"), "tooltip": _tooltip("runner", "median", "p99")},
    },
)

_OVER = {"condition": {"param": "over", "value": 1}, "value": 0.12}  # the line that is pointed at, and the others
WARMUP: Spec = {
    "height": HEIGHT,
    "transform": [
        {"flatten": ["warm_times"], "as": ["ms"]},
        {"window": [{"op": "row_number", "as": "call"}], "groupby": ["runner"]},
    ],
    "encoding": {
        "x": {
            **_x("call", "call, logarithmic", type="log", base=2, nice=False),
            "axis": {"title": "call, logarithmic", "grid": False, "values": [1, 2, 3, 5, 10, 20, 40], "format": "d"},
        },
        "y": _y("ms", "ms, logarithmic", type="log", nice=False),
        "color": COLOUR,
    },
    "layer": [
        {
            "mark": {"type": "line"},
            "encoding": {
                "strokeDash": DASH, "detail": {"field": "runner"}, "opacity": _OVER,
                "strokeWidth": {"condition": {"test": "datum.runtime == 'cpp'", "value": 2}, "value": 1.25},
            },
        },
        {
            "params": [
                {"name": "over", "select": {"type": "point", "on": "pointerover", "fields": ["runner"], "clear": "pointerout"}}
            ],
            "mark": {"type": "point", "filled": True, "size": 20},
            "encoding": {"opacity": _OVER, "tooltip": _tooltip("runner", "call", "ms")},
        },
    ],
}  # fmt: skip

PARTS = ("process and libraries", "load", "call 1")
COLD = _rows(
    {
        "transform": [
            *({"calculate": f"datum.{field}", "as": part} for field, part in zip(("cold_rest", "load", "first_call"), PARTS, strict=True)),
            {"fold": list(PARTS), "as": ["part", "ms"]},
            {"calculate": f"indexof({list(PARTS)}, datum.part)", "as": "place"},
        ],
        "mark": {"type": "bar", "height": 11},
        "encoding": {
            "x": {"field": "ms", "type": "quantitative", "stack": "zero", "axis": {"title": "ms", "tickCount": 6}},
            "order": {"field": "place"},
            "opacity": {"field": "place", "type": "ordinal", "legend": None, "scale": {"domain": [0, 1, 2], "range": [0.28, 0.58, 1]}},
            "tooltip": _tooltip("runner", "part", "ms"),
        },
    },
    *_value("cold_start", "cold_start"),
)  # fmt: skip

MANY = _rows(
    {
        "mark": {"type": "bar", "height": 11},
        "encoding": {"x": _x("many", "images/s"), "tooltip": _tooltip("runner", "images_per_second")},
    },
    *_value("many", "many"),
)


def curve(field: str, title: str) -> Spec:
    """Images a second against a setting."""
    return {
        "height": HEIGHT,
        "encoding": {
            "x": {"field": field, "type": "ordinal", "axis": {"title": title, "labelAngle": 0, "grid": False}},
            "y": _y("images_per_second", "images/s", zero=True),
            "color": COLOUR, "detail": {"field": "runner"},
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.75}, "encoding": {"strokeDash": DASH}},
            {
                "mark": _points(),
                "encoding": {"shape": SHAPE, "fill": FILLED, "tooltip": _tooltip("runner", field, "images_per_second")},
            },
        ],
    }  # fmt: skip


LOAD: Spec = {
    "height": HEIGHT,
    "layer": [
        {
            "transform": [
                {"aggregate": [{"op": "max", "field": "bound", "as": "bound"}]},
                {"filter": "datum.bound > 0"},
            ],
            "mark": {"type": "rule", "strokeDash": [4, 3], "color": "var(--ink)"},
            "encoding": {"y": {"field": "bound", "type": "quantitative"}},
        },
        {
            "transform": [{"flatten": ["load_rates", "load_p99s"], "as": ["rate", "latency"]}],
            "mark": _points(45),  # and no lines: each round searches at rates of its own
            "encoding": {
                "x": _x("rate", "images/s that arrive", zero=False),
                "y": _y("latency", "p99, ms, logarithmic", type="log", nice=False),
                "color": COLOUR, "shape": SHAPE, "fill": FILLED, "tooltip": _tooltip("runner", "rate", "latency"),
            },
        },
    ],
}  # fmt: skip


def against(field: str, title: str, **scale: Any) -> Spec:
    """Latency against a price."""
    x = _x(field, title, **scale)
    if scale.get("type") == "log":
        x["axis"] |= {"values": DECADES, "format": "~e"}
    return {
        "height": HEIGHT - 40,
        "mark": _points(80),
        "encoding": {
            "x": x, "y": _y("median", "median, ms", zero=True),
            "color": COLOUR, "shape": SHAPE, "fill": FILLED, "tooltip": _tooltip("runner", "median", field),
        },
    }  # fmt: skip


CELL = {"type": "text", "fontSize": 10.5, "tooltip": None, "cursor": "pointer"}
HEATMAP: Spec = {
    "usermeta": {"row": MODEL_ROW, "of": "model"},
    "padding": {"left": 5, "top": 5, "right": 28, "bottom": 5},  # for the end of the last label, which slants out of the picture
    "encoding": {
        "x": {
            "field": "runner", "type": "nominal", "sort": None,
            "axis": {"title": None, "orient": "top", "labelAngle": -40, "labelLimit": 160, "labelOverlap": False, "grid": False},
        },
        "y": {"field": "model", "type": "nominal", "sort": None, "axis": {"title": None, "grid": False, "labelOverlap": False}},
    },
    "layer": [
        {
            "mark": {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 2, "cursor": "pointer"},
            "encoding": {
                "fill": {
                    "field": "speedup", "type": "quantitative", "legend": None,
                    "scale": {"type": "threshold", "domain": list(HEAT), "range": [f"var(--heat-{step})" for step in range(len(HEAT) + 1)]},
                },
                "tooltip": _tooltip("model", "runner", "speedup", "median", "median_low", "median_high"),
            },
        },
        {
            "mark": {**CELL, "fontWeight": {"expr": "datum.best ? 700 : 400"}},
            "encoding": {"text": {"field": "speedup", "type": "quantitative", "format": ".2f"}},
        },
    ],
}  # fmt: skip


def ratios(row: str, value: str, low: str, high: str, *tips: str) -> Spec:
    """Ratios with their intervals around 1, a row for each model and within it for each precision, or one for each runner."""
    y: Spec = {
        "field": row,
        "type": "nominal",
        "sort": None,
        "axis": {"title": None, "grid": False, "labelOverlap": False},
    }
    by_model = row == "model"
    place: Spec = (
        {"y": y, "yOffset": {"field": "precision", "sort": ["fp32", "bf16", "fp16"], "scale": {"paddingOuter": 0.2}}}
        if by_model
        else {"y": y}
    )
    numbers = [
        {"field": name, "title": said, "format": ".3f"}
        for name, said in ((value, "ratio"), (low, "95 % from"), (high, "to"))
    ]
    start = _x(low, type="log", nice=False)
    axis = {"title": "ratio, logarithmic", "values": RATIOS, "format": "~r"}
    return {
        "usermeta": {"row": MODEL_ROW if by_model else ROW, "of": row},
        "layer": [
            {"mark": {"type": "rule", "color": "var(--soft)"}, "encoding": {"x": {"datum": 1}}},
            *({"mark": {"type": "point", "opacity": 0}, "encoding": {"x": {"datum": at}}} for at in (0.94, 1.06)),  # least width
            {"mark": BAND, "encoding": {**place, "color": COLOUR, "x": {**start, "axis": axis}, "x2": {"field": high}}},
            {
                "mark": _points(),
                "encoding": {
                    **place, "color": COLOUR, "x": {**_x(value), "axis": axis}, "shape": SHAPE, "fill": FILLED,
                    "tooltip": [*_tooltip(*tips), *numbers],
                },
            },
        ],
    }  # fmt: skip
