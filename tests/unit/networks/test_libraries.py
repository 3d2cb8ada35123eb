"""Models of transformers, timm and torchvision: built by name, taken with their weights, refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError, MissingExtra, RecipeError
from limbeck.networks.given import libraries
from limbeck.networks.given.external import Import, unwrap
from limbeck.networks.given.libraries import is_pretrained
from limbeck.networks.given.weights import weights_hash
from limbeck.networks.handling.tap import Tap


@pytest.fixture
def image() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with tiny classifiers as transformers saves them, and one that was never made to classify."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("transformers")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    resnet = transformers.ResNetConfig(**sizes, num_labels=5)
    transformers.ResNetForImageClassification(resnet).eval().save_pretrained(path / "resnet")
    transformers.ResNetModel(resnet).save_pretrained(path / "features")
    vit = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=16, patch_size=8,
        num_labels=5,
    )  # fmt: skip
    transformers.ViTForImageClassification(vit).eval().save_pretrained(path / "vit")
    return path


@pytest.mark.parametrize(("name", "size"), [("resnet", None), ("vit", 16)])
def test_a_saved_model_of_transformers_gives_its_logits(
    folder: Path, image: Tensor, name: str, size: int | None
) -> None:
    import transformers  # noqa: PLC0415 (slow)

    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder / name).eval()
    ours = Import(f"transformers:{folder / name}", role="classifier", image_size=size, classes=5).eval()
    seen = image if size is None else nn.functional.interpolate(image, size, mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = theirs(seen).logits
        assert expected.std() > 1e-4 and expected.shape == (3, 5)
        assert torch.equal(ours(image), expected)
    assert weights_hash(ours) == weights_hash(theirs)


def test_transformers_models_are_tapped_trained_and_differentiated(folder: Path, image: Tensor) -> None:
    network = Import(f"transformers:{folder / 'resnet'}", role="classifier", features="resnet.pooler", classes=5)
    assert network.features(image).shape == (3, 8)
    with Tap(network, ["resnet.encoder"]):
        network(image.requires_grad_()).square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(p.grad is not None for p in unwrap(network).parameters())


def test_a_model_without_a_head_is_refused_unless_it_gets_a_new_one(folder: Path, image: Tensor) -> None:
    target = f"transformers:{folder / 'features'}"
    with pytest.raises(RecipeError, match=r"no weights for classifier\.1\.bias, .*it was not trained to classify"):
        Import(target, role="classifier")
    assert Import(target, {"num_labels": 7}, role="classifier")(image).shape == (3, 7)


def test_unknown_names_and_arguments_of_transformers(folder: Path) -> None:
    bad: list[tuple[str, dict[str, Any], str]] = [
        (f"{folder}/resnat", {}, f"(did you mean '{folder / 'resnet'}'?)"),
        (f"{folder}/resnet", {"nonsense": 3}, "unexpected keyword argument 'nonsense'"),
        (f"{folder}/resnet", {"trust_remote_code": True}, "arguments.trust_remote_code: transformers is always called"),
        (f"{folder}/resnet", {"use_safetensors": False}, "arguments.use_safetensors: transformers is always called"),
    ]
    for name, arguments, message in bad:
        with pytest.raises(RecipeError) as caught:
            Import(f"transformers:{name}", arguments, role="classifier")
        assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("timm", f"needs timm, which is not installed: install timm and a torchvision, made for the installed torch "
         f"{torch.__version__}"),
        ("torchvision", "needs torchvision, which is not installed: install a torchvision, made for the installed"),
        ("transformers", 'needs transformers, which is not installed: pip install "limbeck[models]"'),
    ],
)  # fmt: skip
def test_a_library_that_is_not_installed(package: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    with pytest.raises(LimbeckError) as caught:
        Import(f"{package}:anything", role="classifier")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(caught.value, MissingExtra) == (package == "transformers")


def test_a_library_that_does_not_fit_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an import of torchvision does on a torch that it was not made for."""

    def fails(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does\nnot exist")

    monkeypatch.setattr(libraries, "find_spec", lambda name: True)
    monkeypatch.setattr(libraries, "resolve_name", fails)
    with pytest.raises(RecipeError) as caught:
        Import("torchvision:resnet18", role="classifier")
    assert str(caught.value) == (
        "importing torchvision failed: RuntimeError: operator torchvision::nms does not exist; install a torchvision,"
        f" made for the installed torch {torch.__version__}"
    )


def test_no_library_makes_torch_run_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that asks torch for everything in a file gets the tensors alone, and nothing else ever is changed."""
    torch.save({"weight": torch.ones(2)}, tmp_path / "good.pth")
    torch.save({"weight": nn.Linear(1, 1)}, tmp_path / "bad.pth")

    def get_model(name: str) -> nn.Module:
        found = torch.load(tmp_path / name, weights_only=False)
        return nn.ParameterList([found["weight"]])

    models = ModuleType("torchvision.models")
    models.get_model, models.list_models = get_model, lambda: ["good.pth"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setattr(libraries, "find_spec", lambda name: True)
    assert torch.equal(next(unwrap(Import("torchvision:good.pth")).parameters()), torch.ones(2))
    with pytest.raises(RecipeError, match="cannot be built: UnpicklingError"):
        Import("torchvision:bad.pth")
    with pytest.raises(RecipeError, match=r"FileNotFoundError.*\(did you mean 'good\.pth'\?\)"):
        Import("torchvision:god.pth")
    assert isinstance(torch.load(tmp_path / "bad.pth", weights_only=False)["weight"], nn.Linear)


@pytest.mark.parametrize(
    ("target", "arguments", "filled", "with_head"),
    [
        ("timm:resnet18", {}, False, False),
        ("timm:resnet18", {"pretrained": False}, False, False),
        ("timm:resnet18", {"pretrained": True}, True, True),
        ("timm:resnet18", {"pretrained": True, "num_classes": 10}, True, False),
        ("torchvision:resnet18", {"weights": None}, False, False),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, True, True),
        ("transformers:some/model", {}, True, True),
        ("transformers:some/model", {"num_labels": 10}, True, False),
        ("torch.nn.Identity", {"pretrained": True}, False, False),
        ("theirs.py:Net", {"weights": "DEFAULT"}, False, False),
    ],
)
def test_what_is_pretrained(target: str, arguments: dict[str, Any], filled: bool, with_head: bool) -> None:
    assert is_pretrained(target, arguments, head=False) == filled
    assert is_pretrained(target, arguments) == with_head


@pytest.mark.parametrize(
    ("target", "wrong", "arguments", "size"),
    [
        ("torchvision:resnet18", "torchvision:resnt18", {"num_classes": 7}, None),
        ("torchvision:inception_v3", "torchvision:inceptionv3", {"init_weights": False, "num_classes": 7}, 299),
        ("timm:resnet10t", "timm:resnet10x", {"num_classes": 7}, None),
        ("timm:vit_tiny_patch16_224", "timm:vit_tiny_patch16_242", {"img_size": 64, "num_classes": 7}, 64),
    ],
)
def test_real_models_of_timm_and_torchvision(
    target: str, wrong: str, arguments: dict[str, Any], size: int | None, image: Tensor
) -> None:
    """These libraries fit few versions of torch, so they are not among what the tests install."""
    pytest.importorskip("torchvision", exc_type=Exception)
    package, name = target.split(":")
    library = pytest.importorskip("timm" if package == "timm" else "torchvision.models")
    make = library.create_model if package == "timm" else library.get_model
    torch.manual_seed(0)
    theirs = make(name, **arguments).eval()
    torch.manual_seed(0)
    ours = Import(target, arguments, role="classifier", image_size=size, classes=7).eval()
    seen = image if size is None else nn.functional.interpolate(image, size, mode="bilinear", antialias=True)
    with torch.no_grad():
        assert torch.equal(ours(image), theirs(seen)) and ours(image).shape == (3, 7)
        assert ours.train()(image).shape == (3, 7)
    with pytest.raises(RecipeError, match=r"\(did you mean '.*'\?\)") as caught:
        Import(wrong, arguments, role="classifier")
    assert "\n" not in str(caught.value)
