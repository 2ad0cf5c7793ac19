"""Backgrounds: what a ray meets behind the scene.

A background takes its style rows and rays and gives features, always composited as
`foreground + transmittance * background`.
"""

from training.background.solid import BackgroundSamples, SolidBackground, SolidConfig
from training.background.sphere import SphereBackground, SphereConfig

BackgroundConfig = SolidConfig | SphereConfig

__all__ = [
    "BackgroundConfig",
    "BackgroundSamples",
    "SolidBackground",
    "SolidConfig",
    "SphereBackground",
    "SphereConfig",
]
