"""Does the registry know every torchvision classifier, and are its weights what it says?"""

from __future__ import annotations

import math
import warnings
import zlib
from pathlib import Path

import numpy
import pytest
import torch
from conftest import PHOTOS
from deploybench import images, models, paths, results_file, summary
from deploybench import weights as weights_of
from deploybench.errors import DeploybenchError

torchvision = models.import_torchvision()


def test_every_classifier_is_there() -> None:
    assert models.names() == sorted(torchvision.models.list_models(module=torchvision.models))


def test_every_deviation_matches_a_model_and_has_a_reason() -> None:
    for pattern, deviation in models.DEVIATIONS.items():
        assert models.select([pattern]), pattern
        assert deviation.why


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["resnet18"], ["resnet18"]),
        (["resnet18,resnet34", "resnet18"], ["resnet18", "resnet34"]),
        (["squeezenet*"], ["squeezenet1_0", "squeezenet1_1"]),
        (["vgg1[19]"], ["vgg11", "vgg19"]),
    ],
)
def test_select(patterns: list[str], expected: list[str]) -> None:
    assert [model.name for model in models.select(patterns)] == expected


def test_sets() -> None:
    assert len(models.select(["article"])) == len(models.ARTICLE) == 32
    assert [model.name for model in models.select(["panel"])] == models.PANEL
    assert [model.name for model in models.select(["all"])] == models.names()


def test_an_unknown_model_comes_with_near_matches() -> None:
    with pytest.raises(DeploybenchError, match=r"resnet51.*did you mean .*resnet50"):
        models.select(["resnet51"])
    with pytest.raises(DeploybenchError, match="matches no model"):
        models.select(["nothing*"])


def test_random_weights_are_the_same_on_every_machine() -> None:
    """The sha256 of the numbers drawn, written down on one machine; a draw is integer arithmetic, so it holds on all."""
    module, sha256 = weights_of.build(models.find("squeezenet1_1"), weights_of.Source("random", "seed 0"), 224)
    assert sha256 == "b9a4100e570f8ec8df5121cf9c98d20c79bbfd5ca7be1275b927d60a84042a90"
    first = next(module.parameters()).flatten()[:3]
    torch.testing.assert_close(
        first, torch.tensor([-0.3997355103492737, -0.3824344277381897, -0.23641808331012726]), rtol=0, atol=0
    )


def test_random_weights_exercise_every_part() -> None:
    """No parameter or statistic is left constant, where a runtime that skipped it would still agree with eager."""
    for name in ("mobilenet_v3_small", "convnext_tiny", "vit_b_32"):
        module, _ = weights_of.build(models.find(name), weights_of.Source("random", "seed 0"), 224)
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.numel() > 1:
                assert tensor.std() > 0, f"{name} {key}"


def test_random_weights_are_scaled_by_powers_of_two() -> None:
    """The last bit of a sum, which differs between machines, must not reach the weights."""
    module, _ = weights_of.build(models.find("mobilenet_v2"), weights_of.Source("random", "seed 0"), 224)
    for key, name, low, high in (
        ("classifier.1.weight", "classifier.1.weight", -((6 / 1280) ** 0.5), (6 / 1280) ** 0.5),
        ("features.0.1.running_var", "variance 0", 0.5, 1.5),
    ):
        generator = numpy.random.Generator(numpy.random.PCG64([0, zlib.crc32(name.encode())]))
        drawn = low + (high - low) * generator.random(dtype=numpy.float32)
        scale = float(module.state_dict()[key].flatten()[0]) / drawn
        assert scale == pytest.approx(2.0 ** round(math.log2(scale)), rel=1e-5), key
    with torch.inference_mode():
        logits = module(torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert 2 / 2**0.5 <= logits.std() <= 2 * 2**0.5, "about 2, but for the rounding"


@pytest.mark.parametrize("name", ["efficientnet_b4", "mobilenet_v3_small", "regnet_y_400mf"])
def test_random_weights_let_rounding_errors_stay_small(name: str) -> None:
    """Against float64, on photos: 3e-6, where parity allows 1e-4. EfficientNet-B4's gates once made 2e-4 of it."""
    model = models.find(name)
    how = models.preprocessing(model)
    module, _ = weights_of.build(model, weights_of.Source("random", "seed 0"), how.crop)
    photos = torch.from_numpy(images.load_batch(PHOTOS, how))
    with torch.inference_mode():
        logits, exact = module(photos), module.double()(photos.double())
    assert (logits.std(1) > 0.4).all()
    assert (logits.std(1) < 6).all()
    assert (logits - exact).abs().max() < 3e-6 * exact.abs().max()


def test_vit_is_built_for_the_size_of_its_images() -> None:
    assert models.construct(models.find("vit_b_32"), 384).image_size == 384


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_training_heads_are_gone_and_scripting_gives_one_tensor(name: str) -> None:
    model = models.find(name)
    crop = models.preprocessing(model).crop
    module, _ = weights_of.build(model, weights_of.Source("random", "seed 0"), crop)
    assert not [key for key in module.state_dict() if "aux" in key.lower()]
    assert next(module.children()).transform_input, "as torchvision builds it for its ImageNet weights"
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on TorchScript's deprecation, torchvision on the tuple
        output = torch.jit.script(module)(torch.zeros(1, 3, crop, crop))
    assert isinstance(output, torch.Tensor)
    assert output.shape == (1, 1000)


def test_a_state_dict_goes_in_and_one_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = torchvision.models.squeezenet1_1(weights=None)
    torch.save(source.state_dict(), tmp_path / "good.pth")
    torch.save({"state_dict": source.state_dict()}, tmp_path / "wrapped.pth")
    torch.save(source.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for file in ("good.pth", "wrapped.pth", "old.pth"):
        target = torchvision.models.squeezenet1_1(weights=None)
        weights_of.load(tmp_path / file, target)
        torch.testing.assert_close(target.state_dict(), source.state_dict(), rtol=0, atol=0)
    with pytest.raises(
        DeploybenchError, match=r"good.pth: does not fit the model: missing .*unexpected|missing .*; \d+ more"
    ):
        weights_of.load(tmp_path / "good.pth", torchvision.models.resnet18(weights=None))
    with pytest.raises(DeploybenchError, match=r"classifier.1.bias is \[1000\], the model's \[10\]; give"):
        weights_of.load(tmp_path / "good.pth", torchvision.models.squeezenet1_1(weights=None, num_classes=10))


def test_old_densenet_keys_are_renamed(tmp_path: Path) -> None:
    source = torchvision.models.densenet121(weights=None)
    old = {
        key.replace("norm1", "norm.1").replace("conv2", "conv.2"): value for key, value in source.state_dict().items()
    }
    assert set(old) != set(source.state_dict())
    torch.save(old, tmp_path / "old.pth")
    target = torchvision.models.densenet121(weights=None)
    weights_of.load(tmp_path / "old.pth", target, models.find("densenet121").deviation.rename)
    torch.testing.assert_close(target.state_dict(), source.state_dict(), rtol=0, atol=0)


def test_what_mends_random_weights() -> None:
    """What `make download` fetches are torchvision's."""
    results = results_file.load(paths.ROOT / "docs" / "results" / "resnet50-cpu.json")
    for chosen, remedy in (
        (["resnet50"], "make download"),
        (["shop:network"], "--weights FILE"),
        (["a:b", "vgg11"], "make download"),
    ):
        results["config"]["models"] = chosen
        assert summary.warnings(results)[-1].endswith(f"labels mean nothing ({remedy})")
