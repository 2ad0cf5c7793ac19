"""From rendered features to the picture."""

from training.upsampling.identity import IdentityConfig
from training.upsampling.superresolution import SuperresolutionConfig

UpsamplerConfig = SuperresolutionConfig | IdentityConfig

__all__ = ["IdentityConfig", "SuperresolutionConfig", "UpsamplerConfig"]
