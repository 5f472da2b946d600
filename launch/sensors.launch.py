"""What sees: camera_node, unless another driver publishes (source:=topics)."""

from hoi_ros.nodes.launch_actions import describe, node_process
from hoi_ros.nodes.node_configs import PICTURE_READERS

NAMES = ("source", "composed", "loop", "record", "params_file", "camera_namespace")


def start(values):
    if values["source"] == "topics":
        return []
    if not values["source"]:
        raise RuntimeError("with composed:=false give source:=..., e.g. source:=sim or source:=realsense")
    parameters = {"source": values["source"], "loop": values["loop"] == "true"}
    if values["composed"] == "false":  # started with all the others: a file waits for them
        recorder = ["recorder_node"] if values["record"] else []
        parameters["readers"] = " ".join((*PICTURE_READERS, *recorder))
    return [node_process("camera_node", values, parameters)]


def generate_launch_description():
    return describe(start, NAMES)
