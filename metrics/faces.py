"""Faces: found, aligned and embedded by dlib's packaged models. Importing this needs dlib and its models."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import dlib
import numpy as np
import torch
from torch import Tensor

SMALLEST_SIDE = 256
"""Smaller pictures are enlarged first: the finder sees no face below 80 pixels."""


def model_file(name: str) -> Path:
    """Path of a file of the package `face-recognition-models`.

    Raises ImportError where it is not installed. The package itself is not imported: it asks for outdated tools.
    """
    package = find_spec("face_recognition_models")
    if package is None or package.origin is None:
        raise ImportError("face_recognition_models is not installed")
    return Path(package.origin).parent / "models" / name


class FaceEmbedder:
    """128 numbers for the largest face of each picture, NaN where there is none."""

    def __init__(self) -> None:
        self._find = dlib.get_frontal_face_detector()
        self._points = dlib.shape_predictor(str(model_file("shape_predictor_5_face_landmarks.dat")))
        self._embed = dlib.face_recognition_model_v1(str(model_file("dlib_face_recognition_resnet_model_v1.dat")))

    def __call__(self, images: Tensor) -> Tensor:
        """Rows `n 128` for uint8 pictures `n 3 height width`."""
        if images.shape[-1] < SMALLEST_SIDE:
            sides = [SMALLEST_SIDE, SMALLEST_SIDE]
            images = torch.nn.functional.interpolate(images.float(), sides, mode="bicubic").round().clamp(0, 255)
        pixels = images.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return torch.from_numpy(np.stack([self._embed_one(np.ascontiguousarray(picture)) for picture in pixels]))

    def _embed_one(self, picture: np.ndarray) -> np.ndarray:
        faces = self._find(picture, 0)
        if not faces:
            return np.full(128, np.nan)
        largest = max(faces, key=lambda face: face.area())
        return np.array(self._embed.compute_face_descriptor(picture, self._points(picture, largest)))
