"""Backgrounds: what a ray meets behind the scene.

A background takes its style rows and rays and gives features, always composited as
`foreground + transmittance * background`. It declares the size of its latent (`z_dim`, 0 without one), the layers of
the network that maps it (`mapping_layers`, 0 where the latent is read as it is), the width and number of the style
rows that it reads (`w_dim`, `num_ws`), and what stands behind foreground-only pictures (`backdrop`: 0 black, 1 white).
"""

from training.background.solid import SolidBackground, SolidConfig
from training.background.sphere import SphereBackground, SphereConfig

BackgroundConfig = SolidConfig | SphereConfig
Background = SolidBackground | SphereBackground

__all__ = [
    "Background",
    "BackgroundConfig",
    "SolidBackground",
    "SolidConfig",
    "SphereBackground",
    "SphereConfig",
]
