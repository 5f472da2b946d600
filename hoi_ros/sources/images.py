"""`images:DIR`: a folder of unrelated pictures."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.sources.camera_file import read_camera_file
from hoi_ros.sources.exif import noted_focal_px
from hoi_ros.sources.image_files import COLOR_SUFFIXES, check_picture, list_pictures, read_color
from hoi_ros.sources.source import Source
from hoi_ros.sources.source_config import SourceConfig


class ImagesSource(Source):
    """Pictures of a folder in natural order, each for itself.

    Intrinsics are those of `camera.json` in it, else the focal length that a photo notes of itself, else a guess.
    """

    independent_frames = True

    def __init__(self, folder: Path, config: SourceConfig) -> None:
        """List the folder and read every picture's header.

        Raises:
            InputError: no such folder, no picture in it, one that is none, bad camera file.
        """
        super().__init__(f"images:{folder}", config)
        self.fps = config.fps
        self._paths = list_pictures(folder)
        if not self._paths:
            raise InputError(f"folder {folder} holds no picture ({' '.join(COLOR_SUFFIXES)}): check the path")
        for path in self._paths:
            check_picture(path)
        camera_file = config.camera_file or (folder / "camera.json" if (folder / "camera.json").exists() else "")
        self._camera = read_camera_file(camera_file) if camera_file else None

    def _total_frames(self) -> int:
        return len(self._paths)

    def _frames(self, start: int) -> Generator[RgbdFrame, None, None]:
        for index in range(start, len(self._paths)):
            path = self._paths[index]
            color = read_color(path)
            stamp_ns = round(index * 1e9 / self.config.fps)
            yield RgbdFrame(color, self._intrinsics(color.shape, path), stamp_ns, index, name=path.name)

    def _intrinsics(self, shape: tuple[int, ...], path: Path) -> CameraIntrinsics:
        height, width = shape[:2]
        if self._camera is not None:
            return self._camera.intrinsics(width, height, f"picture {path}")
        focal = noted_focal_px(path)
        if focal is None:
            return self.guessed_intrinsics(width, height)
        return CameraIntrinsics(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
