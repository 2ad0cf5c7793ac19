"""From latents to styles: the mapping network, its running average and truncation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.layers import EqualizedLinear, normalize_second_moment

W_AVERAGE_DECAY = 0.998


@dataclass(frozen=True)
class MappingConfig:
    """Layers of the scene's mapping network and what it is told about the camera.

    pose_conditioning: the label of the rendering camera (or of another, see the schedule's pose swap)
    conditions the styles; otherwise the network gets zeros. label_scale multiplies the label.
    layer_features, embed_features: widths other than w_dim.
    """

    num_layers: int = 2
    pose_conditioning: bool = False
    label_scale: float = 1.0
    layer_features: int | None = None
    embed_features: int | None = None
    lr_multiplier: float = 0.01

    def __post_init__(self) -> None:
        if self.num_layers < 1:
            raise ValueError("a mapping network needs at least one layer (--map-depth)")


class MappingNetwork(nn.Module):
    """Maps a latent, a label or both to one style w, and keeps the running average of w.

    z_dim or c_dim is 0 where there is no latent or no label; `forward` then takes None in its place.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_layers: int,
        *,
        layer_features: int | None = None,
        embed_features: int | None = None,
        lr_multiplier: float = 0.01,
        keep_average: bool = True,
    ):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        embed_features = (embed_features or w_dim) if c_dim else 0
        widths = [z_dim + embed_features] + [layer_features or w_dim] * (num_layers - 1) + [w_dim]
        if c_dim:
            self.embed = EqualizedLinear(c_dim, embed_features)
        self.layer_names = [f"fc{index}" for index in range(num_layers)]
        for name, width_in, width_out in zip(self.layer_names, widths[:-1], widths[1:], strict=True):
            self.add_module(name, EqualizedLinear(width_in, width_out, "lrelu", lr_multiplier))
        if keep_average:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self, z: Float[Tensor, "n z_dim"] | None, c: Float[Tensor, "n c_dim"] | None, update_average: bool = False
    ) -> Float[Tensor, "n w_dim"]:
        """Styles w. With `update_average` the running average moves towards their mean."""
        dtype = getattr(self, self.layer_names[0]).weight.dtype
        inputs = [] if z is None else [normalize_second_moment(z.to(dtype))]
        if c is not None:
            inputs.append(normalize_second_moment(self.embed(c.to(dtype))))
        x = torch.cat(inputs, dim=1)
        for name in self.layer_names:
            x = getattr(self, name)(x)
        if update_average:
            self.w_avg.lerp_(x.detach().mean(dim=0), 1 - W_AVERAGE_DECAY)
        return x

    def rows(
        self, w: Float[Tensor, "n w_dim"], num_ws: int, psi: float = 1.0, cutoff: int | None = None
    ) -> Float[Tensor, "n num_ws w_dim"]:
        """One style repeated for every layer, the first `cutoff` rows (None: all) pulled to the average by `psi`."""
        ws = w[:, None].repeat(1, num_ws, 1)
        if psi != 1:
            cutoff = num_ws if cutoff is None else cutoff
            ws[:, :cutoff] = self.w_avg.lerp(ws[:, :cutoff], psi)
        return ws
