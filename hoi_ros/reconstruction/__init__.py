"""Posed frames in, meshes out."""
