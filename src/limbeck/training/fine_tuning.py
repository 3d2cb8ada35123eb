"""Fine-tuning: given weights, a new head, frozen layers, and learning rates that differ by layer.

Transfer by copying the first layers and training the rest on another task is Yosinski et al. 2014 (*How transferable
are features in deep neural networks?*); learning rates by layer are Howard & Ruder 2018, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn
from torch.nn import Parameter

from limbeck.errors import RecipeError
from limbeck.networks.given.weights import load_weights
from limbeck.networks.handling.tap import module_at
from limbeck.networks.roles import CutDown, unwrap
from limbeck.training.options import Training


def start(network: nn.Module, weights: Path | None, new_layers: Sequence[str], training: Training) -> None:
    """Give a network its weights, except those of `new_layers`, and freeze what `training` does not train.

    Raises:
        RecipeError: A path names no module, or the network has nothing to train.
        WeightsError: The file does not fit the network.
    """
    if not any(True for _ in network.parameters()):
        raise RecipeError(f"training: {type(network).__name__} has no parameters to train; leave out `training`")
    for path in new_layers:
        module_at(network, path, "new_layers")
    for path in training.rates:
        module_at(network, path, "training.rates")
    if weights is not None:
        load_weights(network, weights, new_layers)
    if training.freeze is not None:
        freeze(network, training.freeze)


def copy_part(target: nn.Module, source: nn.Module, path: str, key: str) -> None:
    """Give a module of one network the weights of the module of the same path in another; "" is the whole network.

    A whole network that is smaller than the other and knows how takes what it has room for (`roles.CutDown`).

    Raises:
        RecipeError: There is no such module in one of them, or the two differ. The message begins with `key`.
    """
    ours, theirs = (module_at(n, path, key) if path else unwrap(n) for n in (target, source))
    mine, given = ({name: tuple(t.shape) for name, t in m.state_dict().items()} for m in (ours, theirs))
    if mine != given and isinstance(ours, CutDown) and not path:
        ours.start_from(theirs)
        return
    if mine != given:
        name = next(n for n in [*mine, *given] if mine.get(n) != given.get(n))
        found = f"{name}: {mine.get(name, 'nothing')} here and {given.get(name, 'nothing')} there"
        raise RecipeError(f"{key} {path!r}: expected the same module in the teacher's network, found {found}")
    ours.load_state_dict(theirs.state_dict())


def freeze(network: nn.Module, path: str) -> None:
    """Freeze every parameter up to and with the module at `path`, in the order of `named_modules`.

    Raises:
        RecipeError: There is no such module, or nothing would be left to train.
    """
    module_at(network, path, "training.freeze")
    reached = False
    for name, module in unwrap(network).named_modules():
        inside = name == path or name.startswith(f"{path}.")
        if reached and not inside:
            break
        reached = inside
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise RecipeError(f"training.freeze: {path!r} leaves nothing to train; name an earlier module")


def hold_frozen(network: nn.Module) -> None:
    """Put the modules whose parameters are all frozen into evaluation mode, so that their statistics stay too."""
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def grouped(
    parameters: Sequence[Parameter], network: nn.Module, rates: Mapping[str, float]
) -> dict[float, list[Parameter]]:
    """Return `parameters` by the factor of their learning rate: 1 for those outside the paths of `rates`."""
    factors: dict[int, float] = {}
    for path in sorted(rates, key=lambda path: path.count(".")):
        inside = module_at(network, path, "training.rates").parameters()
        factors |= dict.fromkeys(map(id, inside), rates[path])
    groups: dict[float, list[Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
    return groups
