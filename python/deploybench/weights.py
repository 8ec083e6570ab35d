"""Where a model's weights come from: torchvision's download, a user's file, or a seed.

Random weights are for measuring speed and parity where nothing can be downloaded. They are not torchvision's own
initialisation, which is a poor test: BatchNorm starts as the identity, ConvNeXt's layer scale at 1e-6 and ViT's head at
zero, so that a runtime may get all of these wrong and still agree.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from deploybench import models, terminal
from deploybench.errors import DeploybenchError
from deploybench.models import Model

if TYPE_CHECKING:
    import torch
    from torch import nn

SEED = 0
LOGITS_STD = 2.0  # of random weights: far from saturation, and the top five apart
MOST_GROWTH = 10.0  # of the answer, with twice the contrast: 4.3 is torchvision's most without gates, 27 the least with


@dataclass(frozen=True)
class Source:
    """Weights that were found, not yet loaded."""

    origin: str  # pretrained, file or random
    name: str  # IMAGENET1K_V2, the file's name, or "seed 0"
    file: Path | None = None

    @property
    def key(self) -> str:
        """Changes when the weights change: the content of a user's file, the name of the others."""
        return sha256(self.file) if self.origin == "file" and self.file else f"{self.origin} {self.name}"


def sha256(file: Path) -> str:
    """The file's sha256 in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def resolve(wish: str, model: Model) -> Source:
    """The source that `--weights wish` means for `model`; downloads torchvision's where they are wanted and not cached.

    Raises artifact_missing, with the URL and the place, where `pretrained` cannot be had.
    """
    if wish == "random":
        return Source("random", f"seed {SEED}")
    if wish not in ("auto", "pretrained"):
        file = Path(os.path.expanduser(wish))  # unlike Path.expanduser, it leaves ~nobody as it is
        if not file.is_file():
            raise DeploybenchError(
                "input_missing", f"{wish}: no such weights file; --weights auto|pretrained|random|FILE"
            )
        return Source("file", file.name, file)
    if model.own:
        if wish == "pretrained":
            raise DeploybenchError("usage", f"{model.factory}: no pretrained weights are known; give --weights FILE")
        return Source("random", f"seed {SEED}")
    weights = models.default_weights(model)
    try:
        return Source("pretrained", weights.name, download(weights.url))
    except OSError as error:
        if wish == "auto":
            return Source("random", f"seed {SEED}")
        raise DeploybenchError(
            "artifact_missing",
            f"{cached(weights.url)}: cannot be downloaded ({getattr(error, 'reason', error)}); "
            f"put {weights.url} there, or use --weights random",
        ) from error


def cached(url: str) -> Path:
    """Where torch.hub keeps the file of `url`."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name


# A host that did not answer once is not asked again: 80 models, 80 time-outs. Its words, not the exception, whose
# traceback would keep the model of each frame in memory: 19 GB after 77 models.
_unreachable: dict[str, str] = {}


def download(url: str) -> Path:
    """The file of `url`, downloaded with torch.hub's progress bar and checked by the hash in its name.

    Raises OSError where the host cannot be reached, lacks the file, or the disk does not take it; artifact_invalid where the hash is wrong.
    """
    import torch

    file, host = cached(url), urlsplit(url).hostname or ""
    if file.is_file():
        return file
    if host in _unreachable:
        raise OSError(_unreachable[host])
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5).close()
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(file), hash_prefix=file.stem.rpartition("-")[2], progress=not terminal.quiet()
        )
    except HTTPError:  # it answers, and lacks this one file
        raise
    except (URLError, ConnectionError, TimeoutError) as error:  # not a full disk, which says nothing of the host
        _unreachable[host] = str(getattr(error, "reason", error))
        raise
    except RuntimeError as error:  # torch.hub's word for a wrong hash
        raise DeploybenchError("artifact_invalid", f"{url}: {error}; try again, or --weights random") from error
    return file


def build(model: Model, source: Source, crop: int) -> tuple[nn.Module, str]:
    """`model` with the weights of `source`, in eval mode and fit to deploy, and the sha256 of the weights.

    `crop`: height and width of its image in pixels.
    """
    import torch

    if source.origin == "pretrained" and source.file:
        digest = sha256(source.file)
        if not digest.startswith(source.file.stem.rpartition("-")[2]):  # torch.hub checks it only after a download
            raise DeploybenchError(
                "artifact_invalid",
                f"{source.file}: damaged, its sha256 begins with {digest[:8]}; delete it and try again",
            )
        module = models.construct(model, crop, models.default_weights(model))
        return models.finish(model, module), digest
    module = models.construct(model, crop)
    if source.file and not is_torchscript(source.file):
        load(source.file, module, model.deviation.rename)
        return models.finish(model, module), sha256(source.file)
    module = models.finish(model, module)
    if source.file:
        load(source.file, module)
        return module, sha256(source.file)
    example = torch.randn(1, 3, crop, crop, generator=torch.Generator().manual_seed(SEED))
    return module, randomise(module, example, SEED)


def is_torchscript(file: Path) -> bool:
    """Whether it is an archive with TorchScript's code, whose weights are those of the module that was finished."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def load(file: Path, module: nn.Module, rename: tuple[str, str] = ("", "")) -> None:
    """Puts the state_dict in `file`, a checkpoint or TorchScript, into `module`. Raises artifact_invalid where there is none
    that fits."""
    import torch

    try:
        if is_torchscript(file):
            state: Any = torch.jit.load(str(file), map_location="cpu").state_dict()
        else:  # mapped where the format allows: one copy of the weights in memory instead of two
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # torch raises half a dozen kinds for files that are no checkpoint
        first = (str(error).strip() or repr(error)).splitlines()[0]
        raise DeploybenchError(
            "artifact_invalid", f"{file}: not a state_dict file ({first[:120]}); save one with torch.save"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]  # the wrapping of many training scripts
    if isinstance(state, dict) and rename[0]:
        state = {re.sub(*rename, str(key)): value for key, value in state.items()}
    check_fits(file, state, module)
    module.load_state_dict(state)


def check_fits(file: Path, state: Any, module: nn.Module) -> None:
    """Refuses a state_dict that is not the module's, with the first few keys that differ."""
    if not isinstance(state, dict) or not all(hasattr(value, "shape") for value in state.values()):
        raise DeploybenchError(
            "artifact_invalid", f"{file}: holds no state_dict; save one with torch.save(m.state_dict())"
        )
    wanted = module.state_dict()
    wrong = [f"missing {key}" for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    wrong += [f"unexpected {key}" for key in state if key not in wanted]
    wrong += [
        f"{key} is {list(state[key].shape)}, the model's {list(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if wrong:
        raise DeploybenchError(
            "artifact_invalid",
            f"{file}: does not fit the model: {'; '.join(wrong[:4])}{f'; {len(wrong) - 4} more' if len(wrong) > 4 else ''}"
            "; give the file that was trained with this model",
        )


def randomise(module: nn.Module, example: torch.Tensor, seed: int) -> str:
    """Fills every parameter and BatchNorm statistic of `module` from `seed`; returns the sha256 of the numbers drawn.

    Exactly the same on every machine: only uniform draws of PCG64 (integer arithmetic), scaled in float32. Weights are
    uniform with variance 2 / fan_in (He et al. 2015, arXiv:1502.01852), scales in [0.5, 1.5], biases in [-0.1, 0.1].
    Depth would make activations explode or vanish, so one forward pass over `example` sets the size of each BatchNorm's
    statistics and of the last layer, both rounded to a power of two: a difference in the last bit of a sum, between
    machines or versions, is rounded away.

    Gates (SiLU, squeeze-excite) grow faster than what comes in, and from block to block that multiplies: with twice the
    contrast MobileNetV3's answer is 27 times as large and EfficientNet-B7's 98,000 times, where networks without gates
    stay below 5. Rounding errors grow alike, and no two kernels agree. There larger biases, in [-1, 1], hold the gates
    open (both below 2), and the pass is over twice the contrast, which few photos have.
    """
    import torch

    with torch.no_grad():
        digest = _draw(module, example, seed, most_bias=0.1)
        answer, louder = module(example), module(2 * example)
        if isinstance(answer, torch.Tensor) and float(louder.std()) > MOST_GROWTH * float(answer.std()):
            digest = _draw(module, 2 * example, seed, most_bias=1.0)
    return digest


def _draw(module: nn.Module, example: torch.Tensor, seed: int, most_bias: float) -> str:
    from torch import nn

    digest = hashlib.sha256()
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for key, tensor in module.named_parameters():
        fan_in = math.prod(tensor.shape[1:])
        if fan_in > 1:
            low, high = -math.sqrt(6 / fan_in), math.sqrt(6 / fan_in)
        else:
            low, high = (-most_bias, most_bias) if key.endswith("bias") else (0.5, 1.5)
        _fill(tensor, low, high, seed, key, digest)
    for index, norm in enumerate(norms):
        if norm.running_mean is not None and norm.running_var is not None:
            _fill(norm.running_mean, -0.1, 0.1, seed, f"mean {index}", digest)
            _fill(norm.running_var, 0.5, 1.5, seed, f"variance {index}", digest)
    _fit_scales(module, norms, example)
    return digest.hexdigest()


def _fill(tensor: torch.Tensor, low: float, high: float, seed: int, key: str, digest: Any) -> None:
    import numpy

    values = numpy.empty(tensor.numel(), numpy.float32)
    numpy.random.Generator(numpy.random.PCG64([seed, zlib.crc32(key.encode())])).random(dtype=numpy.float32, out=values)
    values *= numpy.float32(high - low)
    values += numpy.float32(low)
    digest.update(values)
    import torch

    tensor.copy_(torch.from_numpy(values).view(tensor.shape))


def _power_of_two(value: float) -> float:
    return 2.0 ** round(math.log2(value)) if 0 < value < math.inf else 1.0


def _fit_scales(module: nn.Module, norms: list[Any], example: torch.Tensor) -> None:
    """Sets the size of every BatchNorm's statistics and of the last layer from one forward pass."""
    import torch
    from torch import nn

    last: list[Any] = []

    def measure(norm: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        variance = _power_of_two(float(inputs[0].var()))
        norm.running_mean *= math.sqrt(variance)
        norm.running_var *= variance

    hooks = [norm.register_forward_pre_hook(measure) for norm in norms if norm.running_var is not None]
    hooks += [
        part.register_forward_hook(lambda part, _, __: last.append(part))
        for part in module.modules()
        if isinstance(part, nn.Linear | nn.Conv2d)
    ]
    try:
        output = module(example)
    finally:
        for hook in hooks:
            hook.remove()
    if last and isinstance(output, torch.Tensor):  # generate refuses what is none
        scale = _power_of_two(LOGITS_STD / max(float(output.std()), 1e-30))
        last[-1].weight *= scale
        if last[-1].bias is not None:
            last[-1].bias *= scale
