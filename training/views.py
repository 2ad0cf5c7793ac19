"""Looking at one scene: built once, marched once a camera, shown in any number of layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from numpy import ndarray
from torch import Tensor

from training import media, shapes, texture
from training.cameras.camera import make_rays, rays_through
from training.cameras.paths import strip_cameras
from training.generator import Generator
from training.rendering.renderer import render
from training.scene import Field
from training.types import Camera, Latents, Layer, RayMarch, RenderOutput, RenderSettings

RAYS_PER_CHUNK = 1 << 14
EDGE_SAMPLES = 2
"""Factor on the samples of rays at edges, where few samples would show as noise."""
EDGE_STEP = 1 / 64
"""Neighbouring rays whose opacities differ by more than this lie at an edge."""
EYES = 3
"""Places from which the colours of a surface are told: those of a strip of pictures."""


@dataclass(frozen=True)
class BuiltScene:
    """One scene and its surroundings, ready to be looked at from any number of cameras."""

    generator: Generator
    latents: Latents
    field: Field

    @staticmethod
    def build(generator: Generator, latents: Latents) -> BuiltScene:
        """The scene of one latent; the backbone runs here and nowhere else."""
        if len(latents) != 1:
            raise ValueError(f"a scene is built of one latent, not of {len(latents)}")
        with torch.no_grad():
            return BuiltScene(generator, latents, generator.field(latents, noise_mode="const"))

    @property
    def box_side(self) -> float:
        """Side in scene units of the cube around the origin that holds the scene."""
        return self.generator.config.scene.box_warp

    @property
    def device(self) -> torch.device:
        """Where the scene was built."""
        return self.latents.scene.device

    def shoot(
        self, camera: Camera, settings: RenderSettings | None = None, background_camera: Camera | None = None
    ) -> Shot:
        """What the cameras see; deterministic unless the settings say otherwise.

        settings: None renders the generator's own number of rays. background_camera: other cameras, as many, for
        what lies behind the scene.
        """
        settings = settings or RenderSettings(self.generator.raw_resolution, jitter="center")
        camera = camera.to(self.device)
        behind = camera if background_camera is None else background_camera.to(self.device)
        field = self.field.expand(len(camera))
        with torch.no_grad():
            march = render(field, make_rays(camera, settings), self.generator.config.renderer, settings, self.box_side)
        return Shot(self, camera, behind, settings, march)

    def rays_opacity(self, camera: Camera, uv: Float[Tensor, "rays 2"], settings: RenderSettings) -> Tensor:
        """Opacity, one number a ray, along rays through points of one camera's image plane."""
        parts = [
            render(
                self.field, rays_through(camera, chunk[None]), self.generator.config.renderer, settings, self.box_side
            )
            for chunk in uv.split(RAYS_PER_CHUNK)
        ]
        return torch.cat([part.opacity[0, :, 0] for part in parts])


@dataclass(frozen=True)
class Shot:
    """The rays of some cameras, marched through a scene."""

    scene: BuiltScene
    camera: Camera
    background_camera: Camera
    settings: RenderSettings
    march: RayMarch

    def output(self, layer: Layer = "full") -> RenderOutput:
        """The pictures of one layer."""
        latents = self.scene.latents.expand(len(self.camera))
        with torch.no_grad():
            return self.scene.generator.compose(self.march, latents, self.background_camera, self.settings, layer)

    @property
    def raw_opacity(self) -> Float[Tensor, "n 1 rays_high rays_wide"]:
        """Opacity of the foreground at the resolution of the rays."""
        resolution = self.settings.resolution
        return self.march.opacity.transpose(1, 2).unflatten(2, (resolution, resolution))

    @property
    def raw_depth(self) -> Float[Tensor, "n 1 rays_high rays_wide"]:
        """Expected depth of the foreground, in scene units, at the resolution of the rays."""
        resolution = self.settings.resolution
        return self.march.depth.transpose(1, 2).unflatten(2, (resolution, resolution))

    def opacity(self, resolution: int) -> Float[Tensor, "n 1 high wide"]:
        """Opacity of the foreground for a picture of another size.

        Where neighbouring rays agree it is interpolated; at edges the picture's own pixels are marched, with more
        samples a ray.
        """
        coarse = self.raw_opacity
        size = [resolution, resolution]
        if resolution <= coarse.shape[-1]:
            return torch.nn.functional.interpolate(coarse, size, mode="area")
        opacity = torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
        highest = torch.nn.functional.max_pool2d(coarse, 3, stride=1, padding=1)
        lowest = -torch.nn.functional.max_pool2d(-coarse, 3, stride=1, padding=1)
        edge = torch.nn.functional.interpolate((highest - lowest > EDGE_STEP).float(), size, mode="nearest") > 0
        settings = replace(self.settings, samples_multiplier=EDGE_SAMPLES * self.settings.samples_multiplier)
        for index in range(len(opacity)):
            rows, columns = edge[index, 0].nonzero(as_tuple=True)
            if len(rows):
                uv = (torch.stack([columns, rows], dim=1) + 0.5) / resolution
                with torch.no_grad():
                    camera = self.camera[index : index + 1]
                    opacity[index, 0, rows, columns] = self.scene.rays_opacity(camera, uv, settings)
        return opacity

    @cached_property
    def fine_opacity(self) -> Float[Tensor, "n 1 high wide"]:
        """Opacity of the foreground at the size of the picture."""
        return self.opacity(self.scene.generator.img_resolution)

    @cached_property
    def rgba(self) -> UInt8[ndarray, "n high wide 4"]:
        """8-bit pictures of the foreground with transparency."""
        image = self.output("foreground").image
        over_black = image - (1 - self.fine_opacity) * (self.empty_picture() + 1)
        return media.rgba_pictures(over_black, self.fine_opacity)

    def empty_picture(self) -> Float[Tensor, "n 3 high wide"]:
        """What super-resolution makes of rays that hit nothing: the backdrop, or whatever it was never taught."""
        generator = self.scene.generator
        shape = (len(self.camera), generator.scene.features, self.settings.resolution, self.settings.resolution)
        nothing = torch.full(shape, 2 * generator.background.backdrop - 1.0, device=self.scene.device)
        with torch.no_grad():
            return generator.upsampler(nothing, self.scene.latents.upsampler.expand(len(self.camera), -1, -1))

    def normals(self) -> Float[Tensor, "n 3 rays_high rays_wide"]:
        """Unit normals of the foreground at its expected depth, in world axes: against the slope of the density.

        The slope is a central difference over one hundredth of the scene's box.
        """
        rays = make_rays(self.camera, self.settings)
        points = rays.origins + rays.directions * self.march.depth
        step = self.scene.box_side / 100
        field = self.scene.field.expand(len(self.camera))
        slopes = []
        with torch.no_grad():
            for axis in torch.eye(3, device=points.device) * step:
                slopes.append(field.density(points + axis) - field.density(points - axis))
        normals = -torch.nn.functional.normalize(torch.cat(slopes, dim=-1), dim=-1)
        return normals.transpose(1, 2).unflatten(2, (self.settings.resolution, self.settings.resolution))


# Layers: what a strip of pictures can show.

LayerFunction = Callable[[Sequence[Shot]], ndarray]


def _alpha(shots: Sequence[Shot]) -> UInt8[ndarray, "n high wide 4"]:
    return np.concatenate([shot.rgba for shot in shots])


def _foreground(shots: Sequence[Shot]) -> UInt8[ndarray, "n high wide 3"]:
    backdrop = round(255 * shots[0].scene.generator.background.backdrop)
    return media.over(_alpha(shots), np.full(3, backdrop, dtype=np.uint8))


def depth_layer(limits: tuple[float, float] | None = None) -> LayerFunction:
    """The layer that shows depth between limits in scene units; None: what the shots hit, so not to be compared."""

    def pictures(shots: Sequence[Shot]) -> UInt8[ndarray, "n high wide 3"]:
        depth = torch.cat([shot.raw_depth for shot in shots])
        opacity = torch.cat([shot.raw_opacity for shot in shots])
        return media.depth_pictures(depth, limits, opacity)

    return pictures


def hit_range(shots: Sequence[Shot]) -> tuple[float, float]:
    """The smallest and the largest depth of rays that are more than half opaque; of all rays where none is."""
    depth = torch.cat([shot.raw_depth for shot in shots])
    hit = torch.cat([shot.raw_opacity for shot in shots]) > 0.5
    seen = depth[hit] if hit.any() else depth
    return float(seen.min()), float(seen.max())


def _opacity(shots: Sequence[Shot]) -> UInt8[ndarray, "n high wide 1"]:
    return np.concatenate([media.to_uint8(shot.fine_opacity * 2 - 1) for shot in shots])


def _normals(shots: Sequence[Shot]) -> UInt8[ndarray, "n high wide 3"]:
    """Normals as colours in the axes of each camera: red to the right, green up, blue towards the viewer."""
    pictures = []
    for shot in shots:
        rotation = shot.camera.cam2world[:, :3, :3]
        seen = torch.einsum("nij,nihw->njhw", rotation, shot.normals()) * rotation.new_tensor([1, -1, -1]).view(
            1, 3, 1, 1
        )
        pictures.append(media.to_uint8((seen + 1) * shot.raw_opacity.clamp(0, 1) - 1))
    return np.concatenate(pictures)


def _layer(layer: Layer) -> LayerFunction:
    return lambda shots: np.concatenate([media.to_uint8(shot.output(layer).image) for shot in shots])


def _raw(shots: Sequence[Shot]) -> UInt8[ndarray, "n high wide 3"]:
    return np.concatenate([media.to_uint8(shot.output().image_raw) for shot in shots])


LAYERS: dict[str, LayerFunction] = {
    "image": _layer("full"),
    "alpha": _alpha,
    "fg": _foreground,
    "fgnet": _layer("foreground"),
    "bg": _layer("background"),
    "hole": _layer("hole"),
    "raw": _raw,
    "depth": depth_layer(),
    "opacity": _opacity,
    "normals": _normals,
}
"""Name of a layer -> 8-bit pictures of shots, one after the other.

image: all composed. alpha: the foreground with transparency. fg: the same on black, or on white for networks that
were trained so. fgnet: the foreground as the network itself paints it; super-resolution may tint what is empty.
bg: the surroundings alone. hole: the surroundings as far as the foreground lets them through. raw: the composed
rays before super-resolution. depth, opacity, normals: of the foreground.
"""


@dataclass(frozen=True)
class Separation:
    """Whether shots show an object in front of its surroundings, without ground truth.

    opacity: mean of all rays. solid, empty: shares of rays above 0.9 and below 0.1. inside: share of the rays of more
    than half opacity whose depth lies in the scene's box (1 where there is no such ray).
    """

    opacity: float
    solid: float
    empty: float
    inside: float

    def __str__(self) -> str:
        return (
            f"opacity {self.opacity:.2f} on average, {self.solid:.0%} of the rays solid, {self.empty:.0%} empty; "
            f"depth inside the box for {self.inside:.0%} of what is hit"
        )


def separation(shots: Sequence[Shot]) -> Separation:
    """The separation that these shots show."""
    opacity = torch.cat([shot.march.opacity.flatten() for shot in shots])
    inside = []
    for shot in shots:
        rays = make_rays(shot.camera, shot.settings)
        points = rays.origins + rays.directions * shot.march.depth
        inside.append((points.abs().amax(dim=-1) <= shot.scene.box_side / 2).flatten())
    hit = opacity > 0.5
    share_inside = float(torch.cat(inside)[hit].float().mean()) if hit.any() else 1.0
    solid, empty = (opacity > 0.9).float().mean(), (opacity < 0.1).float().mean()
    return Separation(float(opacity.mean()), float(solid), float(empty), share_inside)


# Shapes of a scene.


@dataclass(frozen=True)
class ShapeSettings:
    """How a shape is taken from a scene.

    resolution: grid points per side of the scene's box. level: raw density of the surface; None fits it to the
    rendered silhouettes. border: share of the box emptied at each side, where cameras never looked. faces: number
    of triangles to simplify to; None keeps all. whole: keep the smallest crumbs and the walls of hollows, too.
    texture: texels a side of a texture (None: colours at the vertices alone); triangles are then no more than fit.
    """

    resolution: int = 512
    level: float | None = None
    border: float = 30 / 256
    faces: int | None = None
    whole: bool = False
    texture: int | None = None

    @property
    def most_faces(self) -> int | None:
        """Triangles that a mesh is simplified to where it has more; None: no limit."""
        limits = [self.faces, None if self.texture is None else texture.most_faces(self.texture)]
        return min((limit for limit in limits if limit is not None), default=None)


def silhouette_level(scene: BuiltScene, views: int = 3) -> float:
    """The raw density whose surface has the silhouettes of the rendered scene; see `shapes.find_level`."""
    cameras = strip_cameras(scene.generator.config.view, views)
    settings = RenderSettings(48, jitter="center")
    marches = [scene.shoot(cameras[index : index + 1], settings).march for index in range(views)]
    return shapes.find_level(
        torch.cat([march.density for march in marches]), torch.cat([march.opacity for march in marches])
    )


def scene_density(scene: BuiltScene, settings: ShapeSettings, *, progress: bool = False) -> Float32[ndarray, "x y z"]:
    """Raw densities in the scene's box, the border emptied."""
    density = shapes.density_grid(
        scene.field, settings.resolution, scene.box_side, device=scene.device, progress=progress
    )
    return shapes.clear_border(density, settings.border)


def scene_mesh(scene: BuiltScene, density: Float32[ndarray, "x y z"], settings: ShapeSettings) -> shapes.Mesh:
    """The coloured surface of a scene's density grid, in scene units.

    Raises ValueError where no surface is found.
    """
    level = silhouette_level(scene) if settings.level is None else settings.level
    mesh = shapes.extract_mesh(density, scene.box_side, level)
    if not settings.whole:
        mesh = shapes.solid_parts(mesh)
    if settings.most_faces is not None:
        mesh = shapes.simplify(mesh, settings.most_faces)
    eyes = strip_cameras(scene.generator.config.view, EYES).position
    gaze = shapes.Gaze(shapes.opaque_depth(level, scene.box_side), eyes.numpy())
    mesh = shapes.color_mesh(mesh, scene.field, gaze, device=scene.device)
    if settings.texture is None:
        return mesh
    return texture.bake(mesh, scene.field, gaze, settings.texture, device=scene.device, progress=True)


def camera_angles(camera: Camera, pivot: Sequence[float] = (0, 0, 0)) -> list[tuple[float, float]]:
    """Azimuth and elevation in degrees of each camera as seen from a point: (0, 0) is the frontal view."""
    relative = camera.position.double().cpu() - torch.tensor(pivot, dtype=torch.float64)
    x, y, z = relative.unbind(dim=1)
    azimuth, elevation = torch.atan2(x, z), torch.atan2(y, (x**2 + z**2).sqrt())
    return [(math.degrees(a), math.degrees(e)) for a, e in zip(azimuth.tolist(), elevation.tolist(), strict=True)]
