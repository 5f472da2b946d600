"""Readers of data sets: whatever the layout, frames with labels (`LabelledSequence`). Nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hoi_ros.errors import InputError, unknown_name
from hoi_ros.evaluation.datasets.coco_wholebody import MARKS as COCO_MARKS
from hoi_ros.evaluation.datasets.coco_wholebody import CocoWholeBody, open_coco_wholebody
from hoi_ros.evaluation.datasets.dexycb import open_dexycb, open_dexycb_training
from hoi_ros.evaluation.datasets.freihand import FreiHand, open_freihand
from hoi_ros.evaluation.datasets.hands_mixed import open_hands_mixed
from hoi_ros.evaluation.datasets.hands_real import LABELS, HandsReal
from hoi_ros.evaluation.datasets.hint import open_hint, open_hint_training
from hoi_ros.evaluation.datasets.ho3d import open_ho3d
from hoi_ros.evaluation.datasets.hot3d import open_hot3d
from hoi_ros.evaluation.datasets.interhand import InterHand
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence
from hoi_ros.evaluation.datasets.rgbd_realsense import open_rgbd_realsense
from hoi_ros.evaluation.datasets.showme import open_showme
from hoi_ros.evaluation.datasets.simulated import open_simulated
from hoi_ros.evaluation.datasets.ycbineoat import open_ycbineoat

__all__ = ["DATASETS", "Dataset", "HandLabel", "LabelledFrame", "LabelledSequence", "open_dataset"]


@dataclass(frozen=True)
class Dataset:
    """A known layout."""

    open: Callable[[Path], list[LabelledSequence]]
    marks: tuple[str, ...]
    """Glob patterns in the folder that show this layout; one is enough."""
    expects: str
    """What a folder of this kind holds, in words."""
    training: Callable[[Path], list[LabelledSequence]] | None = None
    """Its part for training; None where a copy has no parts."""


def _open_interhand(folder: Path) -> list[LabelledSequence]:
    split = next((s for s in ("test", "val", "train") if (folder / "annotations" / s).is_dir()), "test")
    return [InterHand(folder, split)]


DATASETS: dict[str, Dataset] = {
    "simulated": Dataset(
        open_simulated, ("truth.npz", "*/truth.npz"), "what './hoi simulate' writes: truth.npz, color/, depth/"
    ),
    "hands_real": Dataset(lambda f: [HandsReal(f)], (LABELS,), f"{LABELS} and images/"),
    "hands_mixed": Dataset(open_hands_mixed, ("*/test_*.json",), "folders freihand, rhd, ... with test_*.json"),
    "rgbd_realsense": Dataset(
        open_rgbd_realsense, ("camera_poses.json",), "color/, depth/, camera_poses.json, models/, init/"
    ),
    "freihand": Dataset(
        open_freihand,
        ("evaluation_xyz.json", "training_xyz.json"),
        "evaluation/rgb, evaluation_K.json, evaluation_xyz.json",
        lambda f: [FreiHand(f, "training")],
    ),
    "coco_wholebody": Dataset(
        open_coco_wholebody,
        COCO_MARKS,
        "annotations/coco_wholebody_SPLIT_v1.0.json and SPLIT2017/",
        lambda f: [CocoWholeBody(f, "train")],
    ),
    "ho3d": Dataset(
        open_ho3d,
        ("train/*/meta", "evaluation/*/meta", "meta/*.pkl"),
        "train/SEQ/rgb, depth, meta and models/",
        lambda f: open_ho3d(f, ("train",)),
    ),
    "dexycb": Dataset(
        open_dexycb, ("*subject*/*/meta.yml",), "SUBJECT/DATE/meta.yml, calibration/ and models/", open_dexycb_training
    ),
    "interhand": Dataset(
        _open_interhand,
        ("annotations/*/InterHand2.6M_*",),
        "annotations/SPLIT/InterHand2.6M_*.json, images/SPLIT",
        lambda f: [InterHand(f, "train")],
    ),
    "hint": Dataset(open_hint, ("TEST_*", "VAL_*", "TRAIN_*"), "TEST_newdays_img and the like", open_hint_training),
    "showme": Dataset(open_showme, ("*/icp_res", "icp_res"), "SEQ/rgb, icp_res and gt_mesh"),
    "ycbineoat": Dataset(
        open_ycbineoat, ("*/annotated_poses", "annotated_poses"), "SEQ/rgb, depth, cam_K.txt, annotated_poses"
    ),
    "hot3d": Dataset(
        open_hot3d, ("*.cameras.json", "*/*.cameras.json", "*/*/*.cameras.json"), "clips with NNNNNN.cameras.json"
    ),
}


def open_dataset(folder: Path | str, kind: str = "", *, training: bool = False) -> list[LabelledSequence]:
    """Open a folder as the data set that its files show, or as `kind`.

    Args:
        folder: the user's own copy.
        kind: one of `DATASETS`; '' looks at the files.
        training: the part for training, where a data set has one, so that nothing is learned that others are
            measured on; else the part for tests.

    Raises:
        InputError: no such folder, unknown kind, no known layout, or a file of the layout is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"data folder {folder}: no such folder; check the path")
    if kind and kind not in DATASETS:
        raise unknown_name("data set", kind, DATASETS)
    found = kind or detect(folder)
    if not found:
        layouts = "; ".join(f"{name}: {known.expects}" for name, known in DATASETS.items())
        raise InputError(f"data folder {folder} has no known layout; known are {layouts}")
    known = DATASETS[found]
    return (known.training if training and known.training else known.open)(folder)


def detect(folder: Path) -> str:
    """Name of the data set whose files lie in a folder; '' when none does."""
    return next((n for n, known in DATASETS.items() if any(any(folder.glob(m)) for m in known.marks)), "")
