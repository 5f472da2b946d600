"""What sees: camera_node, unless another driver publishes (source:=topics)."""

from hoi_ros.nodes.launch_actions import describe, node_process

NAMES = ("source", "loop", "params_file", "camera_namespace")


def start(values):
    if values["source"] == "topics":
        return []
    if not values["source"]:
        raise RuntimeError("with composed:=false give source:=..., e.g. source:=sim or source:=realsense")
    return [node_process("camera_node", values, {"source": values["source"], "loop": values["loop"] == "true"})]


def generate_launch_description():
    return describe(start, NAMES)
