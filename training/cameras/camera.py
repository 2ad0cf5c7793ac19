"""From cameras to rays."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from training.types import Camera, Rays, RenderSettings


def make_rays(camera: Camera, settings: RenderSettings) -> Rays:
    """Rays through the pixel centres of a square image, row by row from the top left.

    With a patch the same number of rays covers that part of the image. Directions have unit length.
    """
    resolution, device = settings.resolution, camera.cam2world.device
    centres = (torch.arange(resolution, device=device, dtype=torch.float32) + 0.5) / resolution
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    uv = torch.stack([u, v], dim=-1).reshape(1, -1, 2)
    if settings.patch is not None:
        scale, offset = settings.patch.scale[:, None], settings.patch.offset[:, None]
        uv = uv * scale + torch.stack([offset[..., 0], 1 - offset[..., 1] - scale[..., 1]], dim=-1)
    return rays_through(camera, uv)


def rays_through(camera: Camera, uv: Float[Tensor, "#n rays 2"]) -> Rays:
    """Rays through points of the image plane, given as fractions of width and height from the top left."""
    intrinsics = camera.intrinsics[:, None]
    y = (uv[..., 1] - intrinsics[..., 1, 2]) / intrinsics[..., 1, 1]
    x = (uv[..., 0] - intrinsics[..., 0, 2] - intrinsics[..., 0, 1] * y) / intrinsics[..., 0, 0]
    towards = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ camera.cam2world[:, :3, :3].transpose(1, 2)
    directions = towards / towards.norm(dim=-1, keepdim=True)
    origins = camera.position[:, None].expand_as(directions)
    return Rays(origins, directions)


def project(camera: Camera, points: Float[Tensor, "n points 3"]) -> Float[Tensor, "n points 3"]:
    """Image fractions (u, v) and distance from the camera of points in world space; the inverse of `rays_through`.

    Points behind the camera get a negative distance.
    """
    relative = points - camera.position[:, None]
    x, y, z = (relative @ camera.cam2world[:, :3, :3]).unbind(dim=-1)
    intrinsics = camera.intrinsics[:, None]
    u = (intrinsics[..., 0, 0] * x + intrinsics[..., 0, 1] * y) / z + intrinsics[..., 0, 2]
    v = intrinsics[..., 1, 1] * y / z + intrinsics[..., 1, 2]
    return torch.stack([u, v, relative.norm(dim=-1) * z.sign()], dim=-1)


def fov_to_intrinsics(fov_deg: float, device: torch.device | str = "cpu") -> Float[Tensor, "3 3"]:
    """Normalized intrinsics of a centred camera whose diagonal field of view is `fov_deg` degrees.

    With the published roundings of pi and of the square root of two: 18.837 degrees give a focal length of 4.2634,
    close to the 4.2647 of the published data sets.
    """
    focal = 1 / (math.tan(fov_deg * 3.14159 / 360) * 1.414)
    return torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]], dtype=torch.float32, device=device)


def diagonal_fov(focal: float) -> float:
    """Degrees of a focal length in image widths; the inverse of `fov_to_intrinsics`, with the same roundings."""
    return math.atan(1 / (focal * 1.414)) * 360 / 3.14159
