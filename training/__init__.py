"""Scenes, rendering, networks and training of 3D GANs."""

from torch_utils.memory import keep_freed_memory

# Here, because it has to happen before torch allocates much, and makes all that follows faster on CPUs.
keep_freed_memory()
