"""Segmenters of others: transformers' by name, and any module whose logits may be smaller than the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.given.external import Import, Wrapped, unwrap
from limbeck.networks.given.libraries import is_pretrained
from limbeck.networks.given.weights import load_weights, save_weights, weights_hash
from limbeck.networks.handling.tap import Tap

SCRIPT = """
from torch import nn

class Segmenter(nn.Module):
    def __init__(self, classes, stride=1):
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3, stride, 1)
        self.head = nn.Conv2d(6, classes, 1)

    def forward(self, image):
        assert 0 <= image.min() and image.max() <= 1
        return self.head(self.body(image).relu())

class AsDictionary(Segmenter):
    def forward(self, image):
        return {"out": super().forward(image), "aux": image}
"""


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 40, 52, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny SegFormer as transformers saves it, and one that only classifies images."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("transformers")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        hidden_sizes=[4, 8, 8, 8], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=8,
        sr_ratios=[2, 1, 1, 1], num_labels=5,
    )  # fmt: skip
    transformers.SegformerForSemanticSegmentation(config).eval().save_pretrained(path / "segformer")
    transformers.SegformerForImageClassification(config).save_pretrained(path / "classifier")
    return path


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "theirs.py").write_text(SCRIPT)
    return tmp_path / "theirs.py"


def test_a_saved_segformer_gives_its_logits_at_every_pixel(folder: Path, image: Tensor) -> None:
    import transformers  # noqa: PLC0415 (slow)

    theirs = transformers.AutoModelForSemanticSegmentation.from_pretrained(folder / "segformer").eval()
    target = f"transformers-segmentation:{folder / 'segformer'}"
    ours = Import(target, role="segmenter", classes=5).eval()
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    standardised = Import(target, role="segmenter", mean=mean, std=std).eval()
    shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    with torch.no_grad():
        small = theirs(image).logits
        assert small.shape == (2, 5, 10, 13) and small.std() > 1e-4  # SegFormer's own are a quarter of the size
        assert torch.equal(ours(image), F.interpolate(small, (40, 52), mode="bilinear", align_corners=False))
        small = theirs(((image + 1) / 2 - shift) / scale).logits
        expected = F.interpolate(small, (40, 52), mode="bilinear", align_corners=False)
        torch.testing.assert_close(standardised(image), expected, rtol=1e-5, atol=1e-6)
    assert weights_hash(ours) == weights_hash(theirs)
    assert is_pretrained(target, {}) and not is_pretrained(target, {"num_labels": 7})


def test_a_segformer_is_tapped_trained_and_differentiated(folder: Path, image: Tensor) -> None:
    network = Import(f"transformers-segmentation:{folder / 'segformer'}", role="segmenter")
    with Tap(network, ["decode_head.linear_fuse"]) as tap:
        network(image.requires_grad_()).square().sum().backward()
    assert tap["decode_head.linear_fuse"].shape == (2, 8, 10, 13)
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(p.grad is not None for p in unwrap(network).parameters())


def test_models_and_names_that_cannot_segment(folder: Path, image: Tensor) -> None:
    target = f"transformers-segmentation:{folder / 'classifier'}"
    with pytest.raises(RecipeError, match=r"no weights for decode_head\..*: it was not trained to segment; give"):
        Import(target, role="segmenter")
    assert Import(target, {"num_labels": 7}, role="segmenter")(image).shape == (2, 7, 40, 52)
    bad: list[tuple[str, dict[str, Any], str]] = [
        (f"{folder}/segfromer", {}, f"(did you mean '{folder / 'segformer'}'?)"),
        (f"{folder}/segformer", {"nonsense": 3}, "unexpected keyword argument 'nonsense'"),
        (f"{folder}/segformer", {"trust_remote_code": True}, "arguments.trust_remote_code: transformers is always"),
    ]
    for name, arguments, message in bad:
        with pytest.raises(RecipeError) as caught:
            Import(f"transformers-segmentation:{name}", arguments, role="segmenter")
        assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("name", ["Segmenter", "AsDictionary"])
def test_a_network_of_ones_own(script: Path, image: Tensor, name: str, stride: int) -> None:
    torch.manual_seed(0)
    ours = Import(f"{script}:{name}", {"classes": 4, "stride": stride}, None, (0, 1), role="segmenter", classes=4)
    module = unwrap(ours)
    small = module.head(module.body((image + 1) / 2).relu())
    assert small.shape == (2, 4, 40 // stride, 52 // stride)
    expected = F.interpolate(small, (40, 52), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours(image), expected)
    ours(image).square().mean().backward()
    assert all(p.grad is not None for p in ours.parameters())
    save_weights(ours, script.with_name("w.safetensors"))
    twin = Import(f"{script}:{name}", {"classes": 4, "stride": stride}, None, (0, 1), role="segmenter", classes=4)
    load_weights(twin, script.with_name("w.safetensors"))
    assert torch.equal(twin(image), ours(image))


def test_it_may_see_images_at_another_size(image: Tensor) -> None:
    class Seen(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            assert image.shape[2:] == (16, 16)
            return image

    found = Wrapped(Seen(), "segmenter", image_size=16)(image)
    seen = F.interpolate(image, (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(found, F.interpolate(seen, (40, 52), mode="bilinear", align_corners=False))


@pytest.mark.parametrize(
    ("module", "classes", "says"),
    [
        (nn.AvgPool2d(4), 4, "AvgPool2d: expected logits of pixels (N, 4, h, w), found an output of (2, 3, 10, 13)"),
        (nn.Flatten(), 0, "Flatten: expected logits of pixels (N, K, h, w), found an output of (2, 6240)"),
    ],
)
def test_outputs_that_are_no_logits_of_pixels(module: nn.Module, classes: int, says: str, image: Tensor) -> None:
    with pytest.raises(RecipeError) as caught:
        Wrapped(module, "segmenter", classes=classes)(image)
    assert says in str(caught.value) and "\n" not in str(caught.value)
