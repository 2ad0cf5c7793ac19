"""Rendered toy animals with exact cameras, masks and depths: the test bed for everything that learns from pictures.

`Renderer(sample_scene(random))(label, resolution)` is a view with its ground truth; `python -m
dataset_preprocessing.synthetic` makes whole data sets.
"""

from dataset_preprocessing.synthetic.render import Light, Picture, Renderer, Scene, sample_scene, to_bytes

__all__ = ["Light", "Picture", "Renderer", "Scene", "sample_scene", "to_bytes"]
