"""Networks on torch's meta device: what lies or is made elsewhere is found without a GPU."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class NothingElsewhere(TorchFunctionMode):
    """Refuses to make or to use a tensor that is not on meta; torch itself lets many mix in products and indices."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        # What is moved comes from elsewhere, and only has to arrive.
        used = [] if function is torch.Tensor.to else tensors_of([args, list((kwargs or {}).values())])
        with torch._C.DisableTorchFunction():
            strange = {str(tensor.device) for tensor in (*used, *tensors_of(made)) if not tensor.is_meta}
        if strange:
            raise AssertionError(f"{getattr(function, '__name__', function)} met a tensor on {', '.join(strange)}")
        return made


def tensors_of(record: Any) -> list[Tensor]:
    """Every tensor in a record, a tuple or a list, however deep."""
    if isinstance(record, Tensor):
        return [record]
    if isinstance(record, (tuple, list)):
        return [tensor for part in record for tensor in tensors_of(part)]
    return tensors_of(list(vars(record).values())) if hasattr(record, "__dataclass_fields__") else []


def run_on_meta(network: torch.nn.Module, *inputs: Tensor | Any, **options: Any) -> Any:
    """The answer of a network that lies on meta, as do its inputs; all of it must lie there too."""
    # Autocast knows no meta device, and moves nothing.
    with mock.patch("torch.autocast", lambda *_, **__: nullcontext()), NothingElsewhere():
        answer = network(*inputs, **options)
    found = tensors_of(answer)
    assert found and {tensor.device.type for tensor in found} == {"meta"}
    return answer
