"""THE registry of models: every torchvision classifier, by asking torchvision, and a user's own `package.module:factory`.

A row in DEVIATIONS is a model that cannot take the default way, with the reason. Everything else (names, labels, sizes,
preprocessing) is torchvision's word, never restated here.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploybench import paths
from deploybench.errors import DeploybenchError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from deploybench.images import Preprocessing


@dataclass(frozen=True)
class Deviation:
    """Why a model cannot take the default way, and what is done instead."""

    why: str
    arguments: dict[str, Any] = field(default_factory=dict)  # for the factory
    sized: bool = False  # the factory is told the crop of the default weights as image_size
    drop: tuple[str, ...] = ()  # training-only heads, removed after the weights are in
    first_output: bool = False  # scripted, it returns a tuple: keep its logits
    rename: tuple[str, str] = ("", "")  # pattern and replacement for the keys of an older checkpoint


AUXILIARY = "its training-only classifiers make the scripted model return a tuple"
DEVIATIONS: dict[str, Deviation] = {
    # transform_input re-scales the input inside the model; torchvision sets it whenever ImageNet weights are asked for.
    "googlenet": Deviation(AUXILIARY, {"init_weights": False, "transform_input": True}, False, ("aux1", "aux2"), True),
    "inception_v3": Deviation(AUXILIARY, {"init_weights": False, "transform_input": True}, False, ("AuxLogits",), True),
    "densenet*": Deviation(
        "torchvision's files are older than its module names (norm.1 is now norm1)",
        rename=(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),
    ),
    "vit_*": Deviation("its position embedding is built for one image size, the one of the weights", sized=True),
}

# The models of the article this project grew from.
ARTICLE = (  # noqa: SIM905 (fills four lines, a list 32)
    "alexnet, densenet121, densenet161, densenet169, densenet201, googlenet, mnasnet0_5, mnasnet1_0, mobilenet_v2, "
    "mobilenet_v3_large, mobilenet_v3_small, resnet18, resnet34, resnet50, resnet101, resnet152, resnext50_32x4d, "
    "resnext101_32x8d, shufflenet_v2_x0_5, shufflenet_v2_x1_0, squeezenet1_0, squeezenet1_1, vgg11, vgg11_bn, vgg13, "
    "vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn, wide_resnet50_2, wide_resnet101_2"
).split(", ")
# One of each family that people deploy, small to large: what routes and peers are compared on.
PANEL = [
    "resnet18", "resnet50", "resnext50_32x4d", "vgg11", "alexnet", "squeezenet1_1", "densenet121", "mobilenet_v2",
    "mobilenet_v3_large", "mnasnet1_0", "shufflenet_v2_x1_0", "efficientnet_b0", "vit_b_32", "swin_t", "convnext_tiny",
]  # fmt: skip
SETS = {"article": ARTICLE, "panel": PANEL, "all": ["*"]}


@dataclass(frozen=True)
class Model:
    """A row of the registry: a name and the factory that makes the module."""

    name: str
    factory: str  # "package.module:function"

    @property
    def own(self) -> bool:
        """Whether it is a user's own model, about which torchvision knows nothing."""
        return not self.factory.startswith("torchvision.models:")

    @property
    def spec(self) -> str:
        """What `--models` takes to name it."""
        return self.factory if self.own else self.name

    @property
    def deviation(self) -> Deviation:
        """Its row, or an empty one."""
        if not self.own:
            for pattern, deviation in DEVIATIONS.items():
                if fnmatch.fnmatch(self.name, pattern):
                    return deviation
        return Deviation(why="")


@functools.cache
def names() -> list[str]:
    """The classifiers of the installed torchvision, sorted.

    Read from torchvision's source, where `@register_model()` marks each: importing torchvision takes over 2 s, and
    `list` and every misspelt name would have to wait for it. A test holds this against torchvision.models.list_models.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise DeploybenchError(
            "runtime", "torchvision: not installed in this Python; run by nox (`nox -s py_bench`) or pip install it"
        )
    marked = re.compile(r"^@register_model\(\)\n.*?^def (\w+)\(", re.MULTILINE | re.DOTALL)
    files = (Path(spec.origin).parent / "models").glob("*.py")
    return sorted(name for file in files for name in marked.findall(file.read_text(encoding="utf-8")))


def find(text: str) -> Model:
    """The model called `text`: a torchvision classifier, or `package.module:factory`."""
    if ":" in text:
        module, _, function = text.rpartition(":")
        if not all(part.isidentifier() for part in (*module.split("."), function)):
            raise DeploybenchError("usage", f"{text!r}: not of the form package.module:factory; see --help")
        return Model(function, text)
    known = names()
    if text in known:
        return Model(text, f"torchvision.models:{text}")
    near = difflib.get_close_matches(text, [*known, *SETS], n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise DeploybenchError("usage", f"{text!r}: no such model; {hint}all of them: deploybench list")


def select(patterns: Iterable[str]) -> list[Model]:
    """The models that `patterns` name, in order and once each: names, globs, SETS, comma lists, factories."""
    chosen: dict[str, Model] = {}
    for pattern in (part.strip() for text in patterns for part in text.split(",") if part.strip()):
        for word in SETS.get(pattern, [pattern]):
            found = fnmatch.filter(names(), word) if any(c in word for c in "*?[") and ":" not in word else [word]
            if not found:
                raise DeploybenchError("usage", f"{word!r}: matches no model; all of them: deploybench list")
            for model in map(find, found):
                if chosen.setdefault(model.name, model) != model:
                    raise DeploybenchError(
                        "usage",
                        f"{model.factory}: its artifact's name is that of {chosen[model.name].factory}; name one",
                    )
    if not chosen:
        raise DeploybenchError("usage", "--models: names no model; all of them: deploybench list")
    return list(chosen.values())


def import_torchvision() -> Any:
    """`import torchvision`, also where its wheel was built for another torch than the one that is installed.

    PyPI's torchvision wheel is linked against the CUDA build. Beside a CPU torch its C++ library does not load, and the
    import stops with "operator torchvision::nms does not exist", because it registers a meta kernel for an operator that
    the library would have defined. Declaring the two operators it misses lets the import pass; no classifier uses them.
    """
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # half-imported
        global _operators  # the declarations live as long as this object
        _operators = torch.library.Library("torchvision", "DEF")
        _operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision


_operators: torch.library.Library | None = None


def default_weights(model: Model) -> Any:
    """torchvision's best weights for `model`: labels, preprocessing and where to download them."""
    import_torchvision()
    from torchvision.models import get_model_weights

    return get_model_weights(model.name).DEFAULT


def where_weights_come_from(chosen: Iterable[str]) -> str:
    """What mends random weights, of the models of a config: torchvision's can be downloaded, one's own are one's own."""
    named = list(chosen)
    return "--weights FILE" if named and all(":" in name for name in named) else "make download"


def preprocessing(model: Model) -> Preprocessing:
    """The transform that goes with torchvision's default weights of `model`."""
    from deploybench.images import Preprocessing

    return Preprocessing.from_torchvision(default_weights(model).transforms())


def imagenet_labels() -> list[str]:
    """The 1000 ImageNet-1k class names, from data/."""
    return paths.LABELS.read_text(encoding="utf-8").splitlines()


def construct(model: Model, crop: int, weights: Any = None) -> nn.Module:
    """A fresh module in eval mode. `crop`: image size in pixels; `weights`: torchvision's, which its factory then loads."""
    deviation = model.deviation
    arguments = {**deviation.arguments, **({"image_size": crop} if deviation.sized else {})}
    if weights is not None:
        arguments["weights"] = weights
    if not model.own:
        import_torchvision()
    elif os.getcwd() not in sys.path:  # `python -m deploybench` has it, the `deploybench` command has not
        sys.path.insert(0, os.getcwd())
    module_name, _, function = model.factory.rpartition(":")
    # A user's module and factory may raise anything, and scripts that were no modules end in sys.exit.
    try:
        factory = getattr(_imported(module_name), function)
    except (Exception, SystemExit) as error:
        raise DeploybenchError(
            "usage", f"{model.factory}: {error or repr(error)}; give an importable package.module:factory"
        ) from error
    try:
        module = factory(**arguments)
    except (Exception, SystemExit) as error:
        raise DeploybenchError("runtime", f"{model.factory}: the factory failed with {error!r}; mend it") from error
    from torch import nn

    if not isinstance(module, nn.Module):
        raise DeploybenchError("usage", f"{model.factory}: gave {module!r:.100}; it must give a torch.nn.Module")
    return module.eval()


def _imported(name: str) -> Any:
    """The user's module, which may import torchvision by itself."""
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    import_torchvision()
    return importlib.import_module(name)


def finish(model: Model, module: nn.Module) -> nn.Module:
    """`module`, its weights in place, made fit to deploy: no training heads, one tensor in, one tensor out."""
    deviation = model.deviation
    if deviation.drop:
        setattr(module, "aux_logits", False)  # noqa: B010 (nn.Module is typed as holding tensors only)
        for name in deviation.drop:
            setattr(module, name, None)
    return _first_output(module).eval() if deviation.first_output else module


def _first_output(module: nn.Module) -> nn.Module:
    import torch
    from torch import nn

    class FirstOutput(nn.Module):
        """Logits only: eager already returns them alone, a scripted model returns them in a named tuple."""

        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x):  # type: ignore[no-untyped-def]
            if torch.jit.is_scripting():  # type: ignore[attr-defined]
                return self.model(x).logits
            return self.model(x)

    return FirstOutput(module)
