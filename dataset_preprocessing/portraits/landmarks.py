"""Faces and people in photographs, by the networks inside the mediapipe 0.10.14 wheel."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dataset_preprocessing.cameras import Floats
from dataset_preprocessing.extras import need
from dataset_preprocessing.portraits.face_model import POINTS
from training.archive import ArchiveError


def need_mediapipe() -> Any:
    """The package; ArchiveError that says how to install it where it is missing or holds no networks."""
    mediapipe = need("mediapipe", "finding landmarks", "portraits")
    if not hasattr(mediapipe, "solutions"):
        raise ArchiveError(f"mediapipe {mediapipe.__version__} holds no networks; install mediapipe==0.10.14")
    return mediapipe


def find_face(image: Image.Image, least_confidence: float = 0.5) -> Floats | None:
    """Landmarks [468, 2] in pixels of the largest face of an RGB picture; None without a face."""
    result = _face_mesh(least_confidence).process(np.asarray(image))
    if not result.multi_face_landmarks:
        return None
    faces = [
        np.array([(p.x, p.y) for p in face.landmark[:POINTS]]) * image.size for face in result.multi_face_landmarks
    ]
    return max(faces, key=lambda face: float(np.ptp(face, axis=0).max()))


def person_mask(image: Image.Image) -> NDArray[np.uint8]:
    """How much each pixel [height, width] of an RGB picture belongs to a person, 0 to 255."""
    mask = _segmentation().process(np.asarray(image)).segmentation_mask
    return np.round(np.clip(mask, 0, 1) * 255).astype(np.uint8)


@functools.cache
def _face_mesh(least_confidence: float) -> Any:
    solutions = need_mediapipe().solutions
    return solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=8, min_detection_confidence=least_confidence
    )


@functools.cache
def _segmentation() -> Any:
    return need_mediapipe().solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
