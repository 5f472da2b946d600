"""HandOS networks in torch to and from files of weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hoi_ros.hand.handos import HandOs
from hoi_ros.hand.weights_file import WeightsFile, read_weights, write_weights
from hoi_ros.hand_model import HandModel


def save_weights(
    path: Path,
    network: HandOs,
    card: dict[str, Any],
    start: Mapping[str, torch.Tensor] | None = None,
    start_share: float = 0.0,
) -> None:
    """Write a network's learned tensors as float16.

    Args:
        path: the .npz to write.
        network: any size.
        card: what the model card says: data, steps, seed; plain JSON values.
        start: tensors that training started from, by name.
        start_share: of them in what is written; what only one of both has stays as it is.
    """
    learned = {name: p.detach().cpu() for name, p in network.named_parameters()}
    for name, begun in (start or {}).items():
        if name in learned:
            learned[name] = torch.lerp(learned[name], begun.to(learned[name]), start_share)
    arrays = {name: values.numpy() for name, values in learned.items()}
    write_weights(path, network.config, network.topology, arrays, card)


def load_weights(path: Path | str, model: HandModel | None = None) -> tuple[HandOs, dict[str, Any]]:
    """Make the network that a file describes, ready to run.

    Args:
        path: written by `save_weights`.
        model: the hand that the weights were trained for; the free hand when None.

    Returns:
        The network in eval mode without gradients, float32; and its card.

    Raises:
        InputError: missing, truncated or foreign file; another version, hand model or size: it names the tensor, and
            what was expected and found.
    """
    content = read_weights(path, model)
    return network_from(content), content.card


def network_from(content: WeightsFile) -> HandOs:
    """The network of a file that was read; see `load_weights`."""
    network, take = HandOs(content.config, content.topology), content.taker()
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(take(name, tuple(parameter.shape))))
    # Older files have a contact head in every layer; the last one's alone is read.
    take.finish(unused=tuple(f"heads.{k}.contact." for k in range(len(network.layers) - 1)))
    return network.eval().requires_grad_(False)
