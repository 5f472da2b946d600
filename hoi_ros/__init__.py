"""Live hand-object perception: hand meshes, object pose and object mesh from a camera."""

__version__ = "0.1.0"
