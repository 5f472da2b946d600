"""The four ways topics are published and read here."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data

RESULT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Results: best-effort topics fail silently in RViz, which asks for reliable ones."""

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""What changes seldom: late readers get the last one."""

IMAGE_IN = qos_profile_sensor_data
"""Reading images: fits reliable and best-effort cameras."""

IMAGE_OUT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=4, reliability=ReliabilityPolicy.RELIABLE)
"""Publishing images: reliable, so that RViz shows them; a short queue, since old ones are worthless."""
