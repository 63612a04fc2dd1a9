"""Layer outputs of a network, by name, through forward hooks."""

import difflib
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def layer_names(model: nn.Module, layers: Sequence[str]) -> list[str]:
    """Return the module names that `layers` selects.

    Args:
        model: Network.
        layers: Names as in `named_modules()`, or globs such as `block*.out`.

    Returns:
        Names in the order of `named_modules()`.

    Raises:
        ValueError: One that selects nothing; the message has the closest names.
    """
    if isinstance(layers, str):
        raise TypeError(f"layers: expected a sequence of names, got the string {layers!r}")
    known = [name for name, _ in model.named_modules() if name]
    selected: list[str] = []
    for layer in layers:
        found = [layer] if layer in known else fnmatch.filter(known, layer)
        if not found:
            close = difflib.get_close_matches(layer, known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"the model has {', '.join(known[:8])}, ..."
            raise ValueError(f"layers: no module is named {layer!r}; {hint}")
        selected.extend(name for name in found if name not in selected)
    if not selected:
        raise ValueError("layers: expected at least one name, got none")
    return selected


@contextmanager
def hooked(model: nn.Module, names: Sequence[str], seen: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call `seen` with name and output of each named module, in every forward pass inside the block."""
    modules = dict(model.named_modules())

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def forward_hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise TypeError(f"layers: the output of {name} is a {type(output).__name__}, not a tensor")
            seen(name, output.detach())

        return forward_hook

    handles = [modules[name].register_forward_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def capture(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of layers in every forward pass inside the `with` block.

    Args:
        model: Network.
        layers: Names as in `named_modules()`, or globs such as `block*.out`.

    Yields:
        Dictionary from name to output, in the order of execution, refreshed by each forward pass. Outputs are detached
        copies,
        so that a later in-place activation does not change them. A module that runs several times in one pass leaves
        its last
        output. The hooks are removed however the block ends.

    Raises:
        ValueError: A name or glob that selects nothing.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
        >>> with nc.capture(model, ["0"]) as outputs:
        ...     _ = model(torch.zeros(2, 4))
        >>> outputs["0"].shape
        torch.Size([2, 3])
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        outputs.pop(name, None)
        outputs[name] = output.clone()

    with hooked(model, layer_names(model, layers), keep):
        yield outputs


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into eval mode without gradients; afterwards every module is back in its mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
