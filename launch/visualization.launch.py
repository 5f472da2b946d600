"""What shows and keeps: Foxglove, RViz and the recorder. The composed system serves Foxglove and records by itself."""

from launch_ros.actions import Node

from hoi_ros.nodes.launch_actions import describe, node_process
from hoi_ros.nodes.share import share_file

NAMES = ("source", "composed", "rviz", "foxglove", "port", "record", "params_file", "camera_namespace")


def start(values):
    nodes = []
    if values["rviz"] == "true":
        nodes.append(Node(package="rviz2", executable="rviz2", arguments=["-d", str(share_file("rviz/hoi.rviz"))]))
    if values["composed"] == "true":
        return nodes
    if values["foxglove"] == "true":
        nodes.append(node_process("foxglove_node", values, {"port": int(values["port"])}))
    if values["record"]:
        recording = {"path": values["record"], "camera_best_effort": values["source"] == "topics"}
        nodes.append(node_process("recorder_node", values, recording))
    return nodes


def generate_launch_description():
    return describe(start, NAMES)
