"""Discriminators: each owns its view of a real picture and judges views, given the camera."""

from training.discriminators.dual import DualDiscriminator, DualDiscriminatorConfig
from training.discriminators.plain import PlainDiscriminator, PlainDiscriminatorConfig

DiscriminatorConfig = DualDiscriminatorConfig | PlainDiscriminatorConfig
Discriminator = DualDiscriminator | PlainDiscriminator

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "DualDiscriminator",
    "DualDiscriminatorConfig",
    "PlainDiscriminator",
    "PlainDiscriminatorConfig",
]
