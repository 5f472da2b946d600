from xml.etree import ElementTree

from hoi_ros.nodes.dds_profile import PROFILE_FILE, PROFILE_VARIABLES, use_shared_memory_profile


def test_the_variable_that_this_ros_reads_is_set_and_again_is_the_same(monkeypatch):
    for version, names in (
        ("9.1.2", PROFILE_VARIABLES[:1]),
        ("7.1.6", PROFILE_VARIABLES[1:]),
        ("10.0.0", PROFILE_VARIABLES[:1]),
        (None, PROFILE_VARIABLES),
    ):
        monkeypatch.setattr("hoi_ros.nodes.dds_profile._rclpy_version", lambda version=version: version)
        environment = {}
        assert use_shared_memory_profile(environment) == PROFILE_FILE
        assert environment == {name: str(PROFILE_FILE) for name in names}
        assert use_shared_memory_profile(environment) == PROFILE_FILE


def test_a_users_own_profile_or_transport_stays():
    own = {"FASTRTPS_DEFAULT_PROFILES_FILE": "/own.xml"}
    assert str(use_shared_memory_profile(own)) == "/own.xml" and len(own) == 1
    transports = {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    assert use_shared_memory_profile(transports) is None and len(transports) == 1


def test_the_segment_holds_thirty_pictures():
    sizes = [int(e.text) for e in ElementTree.parse(PROFILE_FILE).iter() if e.tag.endswith("segment_size")]
    assert sizes == [32 * 1024 * 1024]
