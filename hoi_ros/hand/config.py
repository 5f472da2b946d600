"""Settings of the hand estimator."""

from __future__ import annotations

from dataclasses import dataclass

from hoi_ros.config import setting

ESTIMATORS = ("auto", "embedded", "handos")


@dataclass(frozen=True)
class HandConfig:
    """Hands: detection, tracking, smoothing and the mesh."""

    estimator: str = setting(
        "auto",
        "which estimator: handos (the HandOS decoder), embedded (landmarks alone, half the time), or auto: handos, "
        "but embedded for a camera on a CPU without handos_masks, and with a hand_model that no handos_weights are for",
        choices=ESTIMATORS,
    )
    handos_weights: str = setting("", "path of HandOS weights; empty for those that ship")
    handos_detector: str = setting(
        "",
        "folder of a full-image detector as transformers writes it (Grounding DINO, RT-DETRv2, D-FINE): HandOS in one "
        "stage, with handos_weights trained on it; empty for the two stages that ship",
    )
    handos_mesh: str = setting(
        "fitted", "mesh of HandOS: fitted (the hand model bent to its joints) or network (its own vertices)",
        choices=("fitted", "network"),
    )  # fmt: skip
    handos_masks: bool = setting(
        False,
        "HandOS also says what is hand, held object and background around a hand, and what touches",
    )
    outline_distance: bool = setting(
        True, "with handos_masks and without depth: the distance at which the hand is as large as its mask"
    )
    handos_engine: str = setting(
        "auto", "what runs HandOS: auto, numpy, eager, trace, compile, cuda_graph, onnx or tensorrt"
    )
    max_hands: int = setting(2, "most hands reported in a frame", low=1, high=16)
    detection_threshold: float = setting(0.5, "palm score above which a palm is looked at", low=0.05, high=1.0)
    presence_threshold: float = setting(0.5, "landmark network's score below which there is no hand", low=0.0, high=1.0)
    redetect_interval_frames: int = setting(
        3, "with fewer than max_hands tracked, look for more in every Nth frame", low=1
    )
    keep_lost_s: float = setting(1.0, "a hand found again within this time keeps its track id", low=0.0)
    one_person: bool = setting(
        True, "with max_hands 2: the two hands are one person's, one left and one right; off judges each alone"
    )
    border_fraction: float = setting(
        0.5, "border around the picture, in its longer side, for hands that fill it; 0 never tries", low=0.0, high=2.0
    )
    smoothing: bool = setting(True, "one-euro smoothing of landmarks over time")
    smoothing_min_cutoff_hz: float = setting(1.5, "cut-off for a hand at rest; lower is calmer", low=0.01)
    smoothing_beta: float = setting(6.0, "cut-off gained per hand size per second; higher lags less", low=0.0)
    average_mirrored: bool = setting(True, "single images: average with the mirrored crop")
    hand_model: str = setting(
        "", "path of a licensed MANO file; empty for the free hand. HandOS then needs handos_weights trained on it"
    )
    threads: int = setting(2, "CPU threads of the networks", low=1, high=64)
