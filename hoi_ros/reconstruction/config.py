"""Settings of reconstruction; needs no torch, so that they can be checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass

from hoi_ros.config import setting


@dataclass(frozen=True)
class ReconstructionConfig:
    """Fusion of the held object into a mesh."""

    voxel_size_m: float = setting(0.002, "edge of a voxel", low=0.0005, high=0.05)
    truncation_voxels: float = setting(4.0, "distance at which the signed distance is cut, in voxels", low=2.0, high=20)
    max_weight: float = setting(24.0, "weight cap; lower forgets wrong geometry sooner", low=1.0)
    min_weight: float = setting(0.05, "weight from which a voxel is part of the mesh", low=0.0)
    free_weight: float = setting(0.6, "weight of free space seen through a voxel; 0 carves nothing", low=0.0, high=10.0)
    free_margin_m: float = setting(0.008, "free space ends this far before what is seen", low=0.0, high=0.2)
    free_frames: int = setting(
        4, "frames that must see through a place before no surface is believed there; 0: off", low=0
    )
    extent_m: float = setting(0.6, "edge of the cube around the first sight that is fused", low=0.05, high=5.0)
    max_blocks: int = setting(8000, "blocks of 8x8x8 voxels, 12 kB each; the object stops growing there", low=8)
    edge_px: float = setting(2.0, "pixels nearer than this to a mask or depth edge weigh less", low=1.0)
    hand_margin_px: int = setting(1, "pixels around hands that say nothing", low=0, high=50)
    depth_jump_m: float = setting(0.05, "step between neighbouring pixels that is a depth edge", low=0.001)
    noise_per_m2: float = setting(0.002, "depth noise at one metre, growing with the square", low=0.0)
    min_depth_m: float = setting(0.1, "nearer depth is not used", low=0.0)
    max_depth_m: float = setting(3.0, "farther depth is not used", low=0.1)
    min_mask_px: int = setting(60, "smaller object masks are not fused", low=1)
    min_inlier_fraction: float = setting(0.3, "frames the tracker explains worse are not fused", low=0.0, high=1.0)
    min_change: float = setting(0.02, "share of the surface that must change before a new mesh", low=0.0, high=1.0)
    keyframes_between_meshes: int = setting(5, "fused frames between two meshes, at least", low=1)
    min_component_fraction: float = setting(
        0.03, "parts smaller than this share of the largest are floaters; 1 keeps one part", low=0.0, high=1.0
    )
    max_objects: int = setting(4, "objects that are remembered; the one not seen for longest goes", low=1, high=100)
    kept_frames: int = setting(
        100, "frames kept to fuse the object anew when poses are corrected, 0.3 MB each; 0: never", low=0, high=2000
    )
    keep_period: int = setting(4, "every so many fused frames one is kept, and every keyframe", low=1)
    refuse_frames: int = setting(30, "fused frames until the object fused anew takes the old one's place", low=0)
    watertight: bool = setting(False, "close the mesh where nothing was seen, by a smooth guess")
    mesh_format: str = setting(
        "ply", "format that the save service and the end of a run write", choices=("ply", "obj", "glb", "stl")
    )
