"""dlib's packaged face recognition behind the interface of an embedder."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

pytest.importorskip("dlib")
from skimage import data

from metrics.features import Detectors

if find_spec("face_recognition_models") is None:
    pytest.skip("dlib's models are not installed", allow_module_level=True)


def test_the_same_face_is_recognized_and_no_face_is_none() -> None:
    astronaut = torch.from_numpy(data.astronaut()[:256, 96:352].copy()).permute(2, 0, 1)
    cat = torch.from_numpy(data.chelsea()[:256, :256].copy()).permute(2, 0, 1)
    shifted = astronaut.roll(6, 2)
    small = torch.nn.functional.interpolate(astronaut[None].float(), [128, 128], antialias=True, mode="bilinear")
    faces = Detectors().get("faces")
    first, again, none = faces.features(torch.stack([astronaut, shifted, cat]))
    half = faces.features(small.round().to(torch.uint8))[0]
    assert first.shape == (128,)
    # dlib calls faces the same below a distance of 0.6.
    assert float((first - again).norm()) < 0.2
    assert float((first - half).norm()) < 0.35
    assert none.isnan().all()
    assert len(faces.sha256) == 64
