"""A classifier in an ONNX file, as a black box: what goes in and what comes out, and nothing between."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from limbeck.errors import MissingExtra, RecipeError, WeightsError, in_a_line
from limbeck.networks.given.called_as.base import called_as
from limbeck.networks.given.called_as.logits import Outputs
from limbeck.networks.given.external import External

PRECISIONS = {"tensor(float)": torch.float32, "tensor(double)": torch.float64, "tensor(float16)": torch.float16}


@final
class OnnxGraph(nn.Module):
    """Runs an ONNX file by onnxruntime on the CPU, whatever device its input is on; it has no gradient.

    The graph has one input, floating-point images (N, C, H, W), and one output, logits (N, K). N may be fixed in the
    file: then the batch is cut into parts of that size, the last filled up with zeros.

    Its only state is the content of the file, as a buffer: that is what is copied, hashed and sent to processes.

    Args:
        path: The file. Weights that it keeps in other files beside it are taken into it.

    Raises:
        WeightsError: The file is missing, damaged, or holds another kind of graph.
        MissingExtra: onnxruntime is not installed.
    """

    file: Tensor

    def __init__(self, path: str) -> None:
        super().__init__()
        content = _read(Path(path))
        self.register_buffer("file", torch.frombuffer(bytearray(content), dtype=torch.uint8))
        try:
            self.shape, self.classes = _signature(self.session)
        except Exception as error:
            raise WeightsError(f"{path}: {in_a_line(error)}") from error

    @cached_property
    def session(self) -> Any:
        """The runtime's own copy of the graph, with as many threads as torch has."""
        import onnxruntime  # noqa: PLC0415 (heavy, and an extra)

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch wants these cores in between
        options.log_severity_level = 4  # errors are raised
        return onnxruntime.InferenceSession(self.file.cpu().numpy().tobytes(), options, ["CPUExecutionProvider"])

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the session, which can neither be copied nor sent to another process."""
        return {name: value for name, value in self.__dict__.items() if name != "session"}

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K), float32, from images (N, C, H, W).

        Raises:
            RecipeError: The images do not fit the file, or what comes out is not (N, K); in backward, always.
        """
        logits: Tensor = _Run.apply(image, self)  # type: ignore[no-untyped-call]
        return logits

    def run(self, image: Tensor) -> Tensor:
        """Return what `forward` does, without autograd."""
        if image.ndim != 4 or not _fits(self.shape[1:], image.shape[1:]):
            expected = ", ".join(str(size) for size in self.shape[1:])
            raise RecipeError(f"ONNX file: expected images (N, {expected}), found {tuple(image.shape)}")
        entry = self.session.get_inputs()[0]
        given = image.detach().to("cpu", PRECISIONS[entry.type])
        size = self.shape[0] if isinstance(self.shape[0], int) else max(1, len(image))
        parts = [self._part(entry.name, part, size) for part in torch.split(given, size)]
        return torch.cat(parts).to(image.device, torch.float32)

    def _part(self, name: str, image: Tensor, size: int) -> Tensor:
        """Return the logits of at most `size` images, of exactly as many when that is in the file."""
        count = len(image)
        filled = torch.cat([image, image.new_zeros(size - count, *image.shape[1:])])
        try:
            logits = torch.from_numpy(self.session.run(None, {name: filled.numpy()})[0])
        except Exception as error:  # onnxruntime has an exception for every kind of failure
            raise RecipeError(f"ONNX file: cannot be run on {tuple(filled.shape)}: {in_a_line(error)}") from error
        if logits.shape != (size, self.classes or logits.shape[-1]):
            raise RecipeError(f"ONNX file: expected logits ({size}, K), found an output of {tuple(logits.shape)}")
        return logits[:count]


@final
class OnnxClassifier(External):
    """A trained classifier in an ONNX file, to learn from: it has outputs, but neither gradients nor features.

    Where the file says its images' size and its number of classes, they need not be said here.

    Args:
        weights: The .onnx file; what it keeps in files beside it is read from there.
        image_range: (low, high) of the images that the file takes.
        mean: What the file wants subtracted from images in [0, 1], one number a channel, instead of an image_range.
        std: What it then wants them divided by.
        image_size: Height and width at which the file sees images; null leaves them at the size of the data.
        image_shape: (C, H, W) of one image of the data; null takes it from the file, where it says so.
        classes: Number of classes K; 0 takes it from the file.
        outputs: "logits", or "probabilities" of a file that ends in a softmax: then their logarithm is taken.

    Raises:
        RecipeError: An argument cannot be used, or contradicts the file.
        WeightsError: The file is missing, damaged, or is no classifier.
        MissingExtra: onnxruntime is not installed.
    """

    def __init__(
        self,
        weights: str,
        image_range: tuple[float, float] = (-1.0, 1.0),
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        image_size: int | None = None,
        image_shape: Sequence[int] | None = None,
        classes: int = 0,
        outputs: Outputs = "logits",
    ) -> None:
        graph = OnnxGraph(weights)
        if classes and graph.classes and classes != graph.classes:
            raise RecipeError(f"OnnxClassifier.classes: expected {graph.classes} as in {weights}, found {classes}")
        way = called_as(
            "classifier",
            image_range=image_range,
            image_shape=_shape_of_data(graph, weights, image_shape, image_size),
            classes=classes or graph.classes,
            mean=mean,
            std=std,
            image_size=image_size,
            outputs=outputs,
        )
        super().__init__(graph, way)

    def features(self, image: Tensor) -> Tensor:
        """Raise: nothing within the file can be seen.

        Raises:
            RecipeError: Always.
        """
        raise RecipeError("OnnxClassifier: an ONNX file gives outputs, not features; take the network itself for them")


def _shape_of_data(
    graph: OnnxGraph, weights: str, image_shape: Sequence[int] | None, image_size: int | None
) -> Sequence[int] | None:
    """Return (C, H, W) of one image of the data: what is said of it, or what the file says, or None.

    Raises:
        RecipeError: The file sees images of another shape.
    """
    channels, *sizes = graph.shape[1:]
    if image_size is not None and not _fits(sizes, (image_size, image_size)):
        raise RecipeError(f"OnnxClassifier.image_size: expected {sizes} as in {weights}, found {image_size}")
    seen = [channels, *(sizes if image_size is None else ("H", "W"))]
    known = [size for size in seen if isinstance(size, int)]
    if image_shape is None:
        return known if len(known) == len(seen) else None
    if not _fits(seen, image_shape):
        raise RecipeError(
            f"OnnxClassifier.image_shape: expected {seen} as in {weights}, found {list(image_shape)};"
            " by `image_size` the file sees images of another size than the data's"
        )
    return image_shape


class _Run(torch.autograd.Function):
    """Runs the graph where torch cannot follow, and says so when somebody differentiates."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, graph: OnnxGraph) -> Tensor:
        return graph.run(image)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RecipeError(
            "OnnxClassifier: an ONNX file gives outputs, not gradients; where the teacher's input is differentiated"
            " (attacks, gradients that are compared) take the network itself, by Import"
        )


def _read(path: Path) -> bytes:
    """Return the content of an ONNX file, with the weights that it keeps in others."""
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtra(package, "export")
    if not path.is_file():
        raise WeightsError(f"{path}: no such ONNX file")
    import onnx  # noqa: PLC0415 (heavy, and an extra)

    try:
        model = onnx.load(str(path))
        content: bytes = model.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf and onnx have many
        raise WeightsError(
            f"{path}: not an ONNX file, damaged, without the file of its weights, or over 2 GiB: {in_a_line(error)}"
        ) from error
    outputs = {output.name for output in model.graph.output}
    if any(node.op_type == "Softmax" and outputs & set(node.output) for node in model.graph.node):
        raise WeightsError(f"{path}: expected logits, found probabilities (Softmax); export the network without it")
    return content


def _signature(session: Any) -> tuple[list[int | str], int]:
    """Return the shape that the graph takes, sizes that are free by their name, and K, 0 when that is free."""
    images = _only(session.get_inputs(), 4, "input, floating-point images (N, C, H, W)")
    classes = _only(session.get_outputs(), 2, "output, logits (N, K)")[1]
    shape = [size if isinstance(size, int) else str(size or "any") for size in images]
    return shape, classes if isinstance(classes, int) else 0


def _only(entries: Sequence[Any], dimensions: int, expected: str) -> Sequence[Any]:
    """Return the shape of the only input or output of a graph, of floating-point numbers in so many dimensions."""
    if len(entries) != 1 or entries[0].type not in PRECISIONS or len(entries[0].shape) != dimensions:
        found = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in entries)
        raise ValueError(f"expected one {expected}, found {found or 'none'}")
    shape: Sequence[Any] = entries[0].shape
    return shape


def _fits(expected: Sequence[int | str], found: Sequence[int]) -> bool:
    """Return whether sizes are the expected ones, where these are numbers."""
    if len(expected) != len(found):
        return False
    return all(isinstance(size, str) or size == given for size, given in zip(expected, found, strict=True))
