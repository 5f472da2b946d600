"""Settings of the object tracker."""

from __future__ import annotations

from dataclasses import dataclass

from hoi_ros.config import setting


@dataclass(frozen=True)
class TrackerConfig:
    """Dense tracking of whatever is held: segmentation, alignment, model and recovery."""

    voxel_size_m: float = setting(0.002, "spacing of the tracker's own surface model", low=0.001, high=0.02)
    max_object_size_m: float = setting(0.4, "largest object that is followed", low=0.05, high=1.0)
    hand_reach_m: float = setting(0.22, "farthest object point from the hand when a grasp starts", low=0.05, high=1.0)
    contact_m: float = setting(0.04, "an object nearer to a hand than this is held by it", low=0.005, high=0.2)
    hand_margin_m: float = setting(0.008, "pixels this near to the hand's silhouette count as hand", low=0.0, high=0.05)
    hand_segments: bool = setting(
        False, "where the hands bring masks (handos_masks), these tell hand and object near the fingers apart"
    )
    min_object_px: int = setting(300, "fewest pixels of an object", low=50)
    start_frames: int = setting(2, "frames in a row that must show an object in the grasp", low=1, high=60)
    plane_margin_m: float = setting(0.01, "height above a table or wall that still belongs to it", low=0.0, high=0.1)
    max_crop_px: int = setting(130000, "a larger crop is worked on at half resolution", low=2000)
    align_points: int = setting(2500, "model points aligned at the finest level", low=200, high=20000)
    max_iterations: int = setting(6, "Gauss-Newton steps at each of the three levels", low=1, high=50)
    color_sigma: float = setting(6.0, "grey levels of one standard deviation of the colour residual", low=0.1)
    color_weight: float = setting(0.3, "weight of the colour residual; 0 aligns by geometry alone", low=0.0, high=100.0)
    min_inliers: float = setting(0.45, "share of visible model points that must fit, else lost", low=0.05, high=1.0)
    recover_inliers: float = setting(0.6, "share that must fit before a lost object is found", low=0.05, high=1.0)
    max_speed_m_s: float = setting(3.0, "faster motion is not believed", low=0.1)
    max_turn_deg_s: float = setting(1200.0, "faster turning is not believed", low=10.0)
    turn_change_deg_s2: float = setting(
        5400.0, "usual change of the turning speed: 6 degrees a frame at 30 frames/s", low=1.0
    )
    max_turn_sigma_deg: float = setting(
        20.0, "less surely known turns are not learnt from, and the state says so", low=0.5, high=90.0
    )
    keyframe_angle_deg: float = setting(15.0, "a view this far from every keyframe becomes one", low=2.0, high=90.0)
    keyframe_new_surface: float = setting(
        0.25, "share of a view that no keyframe shows from which it becomes one", low=0.0, high=1.0
    )
    max_keyframes: int = setting(60, "keyframes that are kept", low=2, high=1000)
    graph_frames: int = setting(
        20, "frames after which corrected keyframe poses take effect; 0 corrects none", low=0, high=1000
    )
    graph_partners: int = setting(3, "keyframes that each new one is compared with", low=1, high=20)
    recovery_guesses: int = setting(10, "poses tried in each frame while lost", low=1, high=200)
    give_up_frames: int = setting(90, "frames lost after which whatever is held counts as a new object", low=1)
    max_objects: int = setting(4, "objects that are remembered; the one not seen for longest goes", low=1, high=50)
    recognition_frames: int = setting(
        10,
        "frames for which each remembered object is sought in something held before it counts as new",
        low=0,
        high=300,
    )
    pointmap_network: str = setting(
        "", "without depth: file of a pairwise pointmap network, of this project, DUSt3R or MASt3R; 'none' goes without"
    )
    seed: int = setting(0, "seed of everything random", low=0)
