"""DETR-like detectors behind one face, frozen: a whole image in, features, queries and boxes for HandOS out.

Source: HandOS section 3.1. Weights are the user's own, from a local folder as `transformers` saves them; nothing is
downloaded. Grounding DINO is asked for "hand."; RT-DETRv2 and D-FINE need a class of that name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hoi_ros.errors import InputError, MissingLibraryError, unknown_name
from hoi_ros.hand.handos import Detection

FAMILIES = {
    "grounding-dino": "GroundingDinoForObjectDetection",
    "rt_detr_v2": "RTDetrV2ForObjectDetection",
    "d_fine": "DFineForObjectDetection",
}
PROMPT, CLASS = "hand.", "hand"
# Colour statistics that Grounding DINO's backbone was trained with; the others take images in [0, 1] as they are.
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FullImageDetector(nn.Module):
    """A frozen detector of one family; never trains, whatever module it is part of."""

    def __init__(self, model: Any, family: str, tokens: dict[str, Tensor] | None = None):
        super().__init__()
        self.model, self.family, self.tokens = model.eval().requires_grad_(False), family, tokens
        self._seen: dict[str, Any] = {}
        inner = model.model
        self._base = inner
        inner.decoder.register_forward_pre_hook(self._before_decoder, with_kwargs=True)
        inner.backbone.register_forward_hook(self._after_backbone)
        if tokens is None:
            self._hand_class = _hand_class(model.config.id2label)

    def train(self, mode: bool = True) -> FullImageDetector:
        """Stay in eval mode: the detector is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Detection:
        """Detect.

        Args:
            images: (B, 3, H, W) RGB in [0, 1].

        Returns:
            F6^e and the backbone's maps, finest first; Q0, Q6, boxes and scores of every query.
        """
        more = {}
        if self.tokens is not None:
            more = {name: values.to(images.device).expand(len(images), -1) for name, values in self.tokens.items()}
            mean, spread = (images.new_tensor(x)[:, None, None] for x in (_MEAN, _SPREAD))
            images = (images - mean) / spread
        output = self.model(pixel_values=images, **more)
        decoder = self._seen["decoder"]
        encoded = decoder.get("encoder_hidden_states")
        encoded = decoder["vision_encoder_hidden_states"] if encoded is None else encoded
        features = _maps(encoded, decoder["spatial_shapes_list"])
        shallow = self._seen["backbone"]
        # Levels that the encoder adds below the backbone's last are tuned from that last map.
        shallow = [shallow[min(level, len(shallow) - 1)] for level in range(len(features))]
        if self.tokens is not None:
            scores = output.logits.sigmoid().amax(-1)
        else:
            scores = output.logits[..., self._hand_class].sigmoid()
        first = decoder["inputs_embeds"].expand(len(images), -1, -1)
        return Detection(tuple(features), tuple(shallow), first, output.last_hidden_state, output.pred_boxes, scores)

    def channels(self, side: int = 256) -> dict[str, tuple[int, ...]]:
        """Settings of `HandOsConfig` that fit this detector, found by looking at one grey image."""
        parameter = next(self.model.parameters())
        detection = self(torch.full((1, 3, side, side), 0.5, device=parameter.device, dtype=parameter.dtype))
        return {
            "feature_channels": tuple(f.shape[1] for f in detection.features),
            "shallow_channels": tuple(f.shape[1] for f in detection.shallow),
            "query_channels": (detection.first_queries.shape[-1], detection.last_queries.shape[-1]),
        }

    def _before_decoder(self, module: nn.Module, arguments: tuple, named: dict[str, Any]) -> None:
        self._seen["decoder"] = named

    def _after_backbone(self, module: nn.Module, arguments: tuple, output: Any) -> None:
        levels = output[0] if isinstance(output, tuple) and isinstance(output[0], list) else output
        self._seen["backbone"] = [level[0] for level in levels]


def load_detector(folder: Path | str) -> FullImageDetector:
    """Load a detector from a folder that `transformers` wrote.

    Raises:
        InputError: no such folder, an unknown family, damaged or incomplete weights, or no class 'hand'.
        MissingLibraryError: transformers is not installed.
    """
    folder = Path(folder)
    kind = _family(folder)
    try:
        import transformers
    except ImportError as error:
        raise MissingLibraryError("full-image detectors need transformers: pip install 'transformers>=5'") from error
    try:
        made, found = _read_model(transformers, kind, folder)
        tokens = None
        if kind == "grounding-dino":
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            tokens = dict(tokenizer(PROMPT, return_tensors="pt"))
    except Exception as error:  # transformers raises whatever its readers do
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"detector folder {folder} cannot be loaded ({reason}): download it again") from error
    _check_tensors(folder, made, found)
    return FullImageDetector(made, kind, tokens)


def _family(folder: Path) -> str:
    """Which of `FAMILIES` a folder holds."""
    remedy = "give a folder that transformers' save_pretrained wrote"
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"detector folder {folder}: no readable config.json; {remedy}") from error
    if not isinstance(content, dict):
        raise InputError(f"detector folder {folder}: its config.json holds no named settings; {remedy}")
    kind = str(content.get("model_type", ""))
    if kind not in FAMILIES:
        raise unknown_name(f"detector family in {folder}", kind, FAMILIES)
    return kind


def _read_model(transformers: Any, kind: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The model, and what its file of weights lacks; `_check_tensors` says so in place of the library's table."""
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        return getattr(transformers, FAMILIES[kind]).from_pretrained(
            folder, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    finally:
        logging.set_verbosity(verbosity)


def _check_tensors(folder: Path, model: nn.Module, found: dict[str, Any]) -> None:
    """Refuse weights that leave a tensor at random; more than the model needs may be there."""
    expected = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    wrong = {
        name: f"has the shape {tuple(shape)}, expected {tuple(own)}" for name, shape, own in found["mismatched_keys"]
    }
    # Counters of batches matter in training alone.
    missing = [name for name in found["missing_keys"] if not name.endswith("num_batches_tracked")]
    wrong |= {name: f"is missing, expected {expected.get(name, 'it')}" for name in missing}
    if wrong:
        first = min(wrong)
        more = f", and {len(wrong) - 1} more do not fit" if len(wrong) > 1 else ""
        raise InputError(
            f"detector folder {folder}: tensor '{first}' {wrong[first]}{more}: "
            "its weights are incomplete or not those of its config.json; download both again"
        )


def _maps(tokens: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
    """Flattened levels (B, sum of H W, d) as maps (B, d, H, W)."""
    parts = tokens.split([int(h) * int(w) for h, w in shapes], 1)
    return [part.transpose(1, 2).unflatten(2, (int(h), int(w))) for part, (h, w) in zip(parts, shapes)]


def _hand_class(names: dict[int, str]) -> int:
    for number, name in names.items():
        if name.strip().lower() == CLASS:
            return int(number)
    known = ", ".join(list(names.values())[:5])
    raise InputError(f"the detector knows no class '{CLASS}' (its first classes: {known}): use one trained on hands")
