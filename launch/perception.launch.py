"""What understands: hands, object and mesh, one process each."""

from hoi_ros.nodes.launch_actions import describe, node_process
from hoi_ros.nodes.node_configs import following_parameters

NAMES = ("source", "device", "estimator", "params_file", "camera_namespace")


def start(values):
    # A default here must not hide what the parameter file says.
    device = {"device": values["device"]} if values["device"] != "auto" else {}
    hand = {"estimator": values["estimator"]} if values["estimator"] != "auto" else {}
    following = following_parameters(values["source"])
    return [
        node_process("hand_node", values, device | hand | following),
        node_process("tracker_node", values, device | following),
        node_process("reconstruction_node", values, device),
    ]


def generate_launch_description():
    return describe(start, NAMES)
