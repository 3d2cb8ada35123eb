"""Reading a network's intermediate features by module path, without touching its code."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn

from limbeck.errors import RecipeError, nearest
from limbeck.networks.roles import unwrap


def module_at(network: nn.Module, path: str, key: str) -> nn.Module:
    """Return the module at a path; `key` says in the message what asked for it.

    Raises:
        RecipeError: There is none.
    """
    network = unwrap(network)
    known: dict[str, nn.Module] = dict(network.named_modules())
    if path not in known or path == "":
        raise RecipeError(
            f"{key} {path!r}: no such module in {type(network).__name__}{nearest(path, known)};"
            f" it has {', '.join(list(known)[1:13]) or 'none: only its output can be seen'}"
        )
    return known[path]


class Tap:
    """Collects the outputs of the modules at `paths` while it is open, each as its module returned it.

    The network goes on with a copy, because what comes next may write into it: `ReLU(inplace=True)`, `x += y`. A
    gradient flows through what is collected, from the network's output to its input.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with Tap(net, ["0"]) as tap:
        ...     _ = net(torch.zeros(1, 2))
        >>> tap["0"].shape
        torch.Size([1, 3])

    Raises:
        RecipeError: A path names no module of the network.
    """

    def __init__(self, network: nn.Module, paths: Sequence[str]) -> None:
        self._kind = type(unwrap(network)).__name__
        self._modules = {path: module_at(network, path, "feature path") for path in paths}
        self._outputs: dict[str, Tensor] = {}

    def __getitem__(self, path: str) -> Tensor:
        """Return the last output of the module at `path`.

        Raises:
            RecipeError: The network did not run it.
        """
        if path not in self._outputs:
            raise RecipeError(f"feature path {path!r}: {self._kind} does not run this module; choose one inside it")
        return self._outputs[path]

    def __contains__(self, path: str) -> bool:
        """Return whether the module at `path` has run."""
        return path in self._outputs

    def __enter__(self) -> Self:
        self._handles = [m.register_forward_hook(self._keep(p)) for p, m in self._modules.items()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                self._outputs[path] = output
                return output
            # What passes its input on (Identity, Flatten, an in-place activation) returns memory of others.
            self._outputs[path] = output.clone() if _shared(output, inputs) else output
            return self._outputs[path].clone()

        return hook


def _shared(output: Tensor, inputs: Any) -> bool:
    """Return whether the output lies in the memory of an input."""
    place = output.untyped_storage().data_ptr()
    return any(isinstance(i, Tensor) and i.untyped_storage().data_ptr() == place for i in inputs)


def features_at(network: nn.Module, paths: Sequence[str], *inputs: Tensor) -> list[Tensor]:
    """Return the outputs of the modules at `paths` for these inputs, in their order.

    Raises:
        RecipeError: A path names no module of the network.
    """
    with Tap(network, paths) as tap:
        network(*inputs)
    return [tap[path] for path in paths]
