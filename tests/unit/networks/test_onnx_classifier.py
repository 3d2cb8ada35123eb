"""ONNX files as teachers, against the network that was exported."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from torch import Tensor, nn

from limbeck.errors import LimbeckError, MissingExtra, RecipeError, WeightsError
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.given import onnx_classifier
from limbeck.networks.given.external import Wrapped
from limbeck.networks.given.onnx_classifier import OnnxClassifier
from limbeck.networks.given.weights import weights_hash
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.tap import Tap

SIZE = 8


def network() -> SmallCnn:
    torch.manual_seed(0)
    built = SmallCnn(width=4, channels=3, size=SIZE, classes=5)
    built(torch.randn(16, 3, SIZE, SIZE))  # running statistics of its own
    return built.eval()


def export(module: nn.Module, file: Path, **options: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(3, 3, SIZE, SIZE),), str(file), verbose=False, **options)
    return str(file)


def free(*axes: str) -> dict[str, Any]:
    """Options of an export whose first input has these axes free."""
    sizes = {"batch": 0, "height": 2, "width": 3}
    return {"dynamic_shapes": ({sizes[axis]: torch.export.Dim.DYNAMIC for axis in axes},)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the same network with a fixed batch of three and with a free one, and that with other weights."""
    folder = tmp_path_factory.mktemp("onnx")
    free_batch = export(network(), folder / "free.onnx", **free("batch"))
    other = onnx.load(free_batch)
    weight = other.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
    onnx.save(other, str(folder / "other.onnx"))
    return {
        "fixed": export(network(), folder / "fixed.onnx"),
        "free": free_batch,
        "other": str(folder / "other.onnx"),
    }


@pytest.fixture
def image() -> Tensor:
    return torch.rand(7, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("batch", ["fixed", "free"])
def test_logits_are_those_of_the_exported_network(files: dict[str, str], image: Tensor, batch: str) -> None:
    found = OnnxClassifier(files[batch])
    assert (found.image_shape, found.classes, found.role) == ((3, SIZE, SIZE), 5, "classifier")
    assert list(found.parameters()) == []
    for count in (1, 3, 7):  # less than the fixed batch, as much, and no multiple
        torch.testing.assert_close(found(image[:count]), network()(image[:count]), atol=1e-5, rtol=0)
    assert found(image).dtype == torch.float32 and found(image.double()).dtype == torch.float32
    assert OnnxClassifier(files["free"])(image[:0]).shape == (0, 5)


def test_images_come_in_as_the_network_saw_them(files: dict[str, str], image: Tensor) -> None:
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    small = OnnxClassifier(files["free"], mean=mean, std=std, image_size=SIZE, image_shape=(3, 12, 12))
    assert small.image_shape == (3, 12, 12)
    large = F.interpolate(image, 12)
    seen = F.interpolate(large, SIZE, mode="bilinear", antialias=True) / 2 + 0.5
    seen = (seen - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(small(large), network()(seen), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        OnnxClassifier(files["free"], (0.0, 1.0))(image), network()(image / 2 + 0.5), atol=1e-5, rtol=0
    )


def test_free_sizes_are_whatever_comes(tmp_path: Path) -> None:
    found = OnnxClassifier(export(network(), tmp_path / "sizes.onnx", **free("batch", "height", "width")))
    assert found.image_shape is None and found.classes == 5
    image = torch.rand(2, 3, 16, 24)
    torch.testing.assert_close(found(image), network()(image), atol=1e-5, rtol=0)


def test_copies_and_processes_get_the_same_network(files: dict[str, str], image: Tensor, tmp_path: Path) -> None:
    moved = tmp_path / "moved.onnx"
    onnx.save(onnx.load(files["free"]), str(moved))
    found = OnnxClassifier(str(moved))
    expected = found(image)
    sent = pickle.dumps(found)
    moved.unlink()  # a copy needs the file no more
    for twin in (copy.deepcopy(found), pickle.loads(sent), Frozen(found)):
        assert torch.equal(twin(image), expected)


def test_the_hash_is_that_of_the_content(files: dict[str, str], image: Tensor, tmp_path: Path) -> None:
    """Two files with the same graph differ by their weights alone, even where these lie in a file beside it."""
    hashes = {weights_hash(OnnxClassifier(file)) for file in files.values()}
    assert len(hashes) == 3
    assert weights_hash(OnnxClassifier(files["free"])) in hashes
    beside = tmp_path / "teacher.onnx"
    onnx.save(onnx.load(files["free"]), str(beside), save_as_external_data=True, location="w.bin", size_threshold=0)
    before, content = OnnxClassifier(str(beside)), bytearray((tmp_path / "w.bin").read_bytes())
    assert len(content) > 1000
    torch.testing.assert_close(before(image), network()(image), atol=1e-5, rtol=0)
    content[3] ^= 1
    (tmp_path / "w.bin").write_bytes(content)
    assert weights_hash(OnnxClassifier(str(beside))) != weights_hash(before)


def test_it_has_no_gradient_and_says_so(files: dict[str, str], image: Tensor) -> None:
    found = OnnxClassifier(files["free"])
    assert not found(image).requires_grad
    logits = found(image.requires_grad_())
    with pytest.raises(RecipeError, match="an ONNX file gives outputs, not gradients; where the teacher's input"):
        torch.autograd.grad(logits.sum(), image)


def test_it_has_no_features_and_says_so(files: dict[str, str], image: Tensor) -> None:
    found = OnnxClassifier(files["free"])
    with pytest.raises(RecipeError, match=r"feature path 'blocks\.0': no such module in OnnxGraph; it has none"):
        Tap(found, ["blocks.0"])
    with pytest.raises(RecipeError, match="an ONNX file gives outputs, not features"):
        found.features(image)


FLOAT, WHOLE = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
IMAGE = ("image", FLOAT, ["N", 3, SIZE, SIZE])
LOGITS = ("logits", FLOAT, ["N", 3])
POOL = [make_node("GlobalAveragePool", ["image"], ["mean"]), make_node("Flatten", ["mean"], ["logits"])]
Values = list[tuple[str, int, list[Any]]]


def write(file: Path, inputs: Values, outputs: Values, nodes: list[onnx.NodeProto]) -> str:
    entries = ([make_tensor_value_info(*value) for value in values] for values in (inputs, outputs))
    graph = make_graph(nodes, "graph", *entries)
    onnx.save(make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=9), str(file))
    return str(file)


def test_a_graph_without_weights_is_a_classifier(tmp_path: Path, image: Tensor) -> None:
    """The graphs below are refused for what each of them changes in this one."""
    found = OnnxClassifier(write(tmp_path / "graph.onnx", [IMAGE], [LOGITS], POOL))
    torch.testing.assert_close(found(image), image.mean((2, 3)))


ONE_INPUT = "expected one input, floating-point images (N, C, H, W), found"
ONE_OUTPUT = "expected one output, logits (N, K), found"
GRAPHS: list[tuple[Values, Values, list[onnx.NodeProto], str]] = [
    ([IMAGE, ("other", FLOAT, [1])], [LOGITS], POOL, f"{ONE_INPUT} image tensor(float) ['N', 3, 8, 8], other tensor("),
    ([("x", FLOAT, ["N", 3])], [LOGITS], [make_node("Identity", ["x"], ["logits"])], f"{ONE_INPUT} x tensor(float)"),
    (
        [("x", WHOLE, ["N", 3, SIZE, SIZE])],
        [LOGITS],
        [make_node("Cast", ["x"], ["image"], to=FLOAT), *POOL],
        f"{ONE_INPUT} x tensor(int64)",
    ),
    ([IMAGE], [("mean", FLOAT, ["N", 3, 1, 1])], POOL[:1], f"{ONE_OUTPUT} mean tensor(float) ['N', 3, 1, 1]"),
    ([IMAGE], [LOGITS, ("mean", FLOAT, ["N", 3, 1, 1])], POOL, f"{ONE_OUTPUT} logits tensor(float) ['N', 3], mean"),
    (
        [IMAGE],
        [("p", FLOAT, ["N", 3])],
        [*POOL, make_node("Softmax", ["logits"], ["p"])],
        "expected logits, found probabilities (Softmax); export the network without it",
    ),
    ([IMAGE], [LOGITS], [*POOL[:1], make_node("NoSuchThing", ["mean"], ["logits"])], "NoSuchThing"),
]


@pytest.mark.parametrize(("inputs", "outputs", "nodes", "message"), GRAPHS, ids=[row[-1] for row in GRAPHS])
def test_graphs_that_are_no_classifier(
    tmp_path: Path, inputs: Values, outputs: Values, nodes: list[onnx.NodeProto], message: str
) -> None:
    file = write(tmp_path / "graph.onnx", inputs, outputs, nodes)
    with pytest.raises(WeightsError) as caught:
        OnnxClassifier(file)
    assert str(caught.value).startswith(f"{file}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 6}, "OnnxClassifier.classes: expected 5 as in"),
        ({"image_shape": (1, SIZE, SIZE)}, f"image_shape: expected [3, {SIZE}, {SIZE}] as in"),
        ({"image_shape": (3, 32, 32)}, f"image_shape: expected [3, {SIZE}, {SIZE}] as in"),
        ({"image_shape": (1, 32, 32), "image_size": SIZE}, "image_shape: expected [3, 'H', 'W'] as in"),
        ({"image_size": 32}, f"OnnxClassifier.image_size: expected [{SIZE}, {SIZE}] as in"),
        ({"mean": [0.5, 0.5, 0.5]}, "AsClassifier.std: expected 3 numbers beside mean, found null"),
        ({"mean": [0.5] * 3, "std": [0.5] * 3, "image_range": (0, 1)}, "image_range: expected none beside mean and"),
    ],
)
def test_arguments_that_contradict_the_file(files: dict[str, str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        OnnxClassifier(files["free"], **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, SIZE, SIZE), f"ONNX file: expected images (N, 3, {SIZE}, {SIZE}), found (2, 1, {SIZE}, {SIZE})"),
        ((2, 3, 9, 9), f"ONNX file: expected images (N, 3, {SIZE}, {SIZE}), found (2, 3, 9, 9)"),
        ((2, 3), "found (2, 3)"),
    ],
)
def test_images_that_do_not_fit(files: dict[str, str], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        OnnxClassifier(files["free"])(torch.zeros(shape))
    assert message in str(caught.value)


def test_files_that_cannot_be_used(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(Path(files["free"]).read_bytes()[:500])
    alone = tmp_path / "alone.onnx"
    model = onnx.load(files["free"])
    onnx.save(model, str(alone), save_as_external_data=True, location="gone.bin", size_threshold=0)
    (tmp_path / "gone.bin").unlink()
    for file, message in ((tmp_path / "absent.onnx", "no such ONNX file"), (damaged, ""), (alone, "gone.bin")):
        with pytest.raises(WeightsError) as caught:
            OnnxClassifier(str(file))
        assert str(caught.value).startswith(f"{file}: ") and message in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(onnx_classifier, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'needs onnx, which is not installed: pip install "limbeck\[export\]"'):
        OnnxClassifier(files["free"])


def test_mean_std_and_size_of_any_network_of_somebody(image: Tensor) -> None:
    means = Wrapped(nn.AdaptiveAvgPool2d(1), role="classifier", mean=[0.5, 0.0, 1.0], std=[0.5, 1.0, 2.0])
    expected = torch.stack([image[:, 0], image[:, 1] / 2 + 0.5, image[:, 2] / 4 - 0.25], 1).mean((2, 3))
    torch.testing.assert_close(means(image).flatten(1), expected)
    sizes = Wrapped(nn.Flatten(), role="classifier", image_size=4)
    torch.testing.assert_close(sizes(image).view(7, 3, 4, 4).mean((2, 3)), image.mean((2, 3)), atol=0.05, rtol=0)
    assert torch.equal(sizes(image[..., :4, :4]), image[..., :4, :4].flatten(1))  # nothing to do
    with pytest.raises(RecipeError, match="expected images of 3 channels, as mean and std have, found 1"):
        means(image[:, :1])
    refused: list[tuple[dict[str, Any], str]] = [
        (
            {"mean": [0.5] * 3, "std": [0.5] * 3, "role": "generator"},
            "mean: expected an argument of a generator",
        ),
        ({"image_size": 8, "role": "generator"}, "image_size: expected an argument of a generator"),
        ({"image_size": 0, "role": "classifier"}, "AsClassifier.image_size: expected a whole number of at least 1"),
        ({"mean": [0.5] * 3, "std": [0.5] * 2, "role": "classifier"}, "AsClassifier.std: expected 3 numbers above 0"),
    ]
    for options, message in refused:
        with pytest.raises(LimbeckError, match=message):
            Wrapped(nn.Identity(), **options)
