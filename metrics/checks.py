"""The questions of a score card, and what counts as a good answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Gate(Protocol):
    """What a good value is, given that of a perfect renderer of the same data (None where there is none)."""

    def passes(self, value: float, ideal: float | None) -> bool:
        """Whether a value is good."""

    def rule(self, ideal: float | None) -> str:
        """The gate in words."""


@dataclass(frozen=True)
class AtMost:
    """No more than factor * ideal + slack; without an ideal, no more than `bound`."""

    bound: float
    factor: float | None = None
    slack: float = 0.0

    def limit(self, ideal: float | None) -> float:
        """The largest good value."""
        return self.bound if ideal is None or self.factor is None else self.factor * ideal + self.slack

    def passes(self, value: float, ideal: float | None) -> bool:
        """Whether a value is good."""
        return value <= self.limit(ideal)

    def rule(self, ideal: float | None) -> str:
        """The gate in words."""
        return f"at most {self.limit(ideal):.3g}"


@dataclass(frozen=True)
class AtLeast:
    """No less than ideal - slack; without an ideal, no less than `bound`."""

    bound: float
    slack: float

    def limit(self, ideal: float | None) -> float:
        """The smallest good value."""
        return self.bound if ideal is None else ideal - self.slack

    def passes(self, value: float, ideal: float | None) -> bool:
        """Whether a value is good."""
        return value >= self.limit(ideal)

    def rule(self, ideal: float | None) -> str:
        """The gate in words."""
        return f"at least {self.limit(ideal):.3g}"


@dataclass(frozen=True)
class Around:
    """Between low * ideal and high * ideal; without an ideal, no less than `bound`."""

    bound: float
    low: float
    high: float

    def passes(self, value: float, ideal: float | None) -> bool:
        """Whether a value is good."""
        return value >= self.bound if ideal is None else self.low * ideal <= value <= self.high * ideal

    def rule(self, ideal: float | None) -> str:
        """The gate in words."""
        return f"at least {self.bound:.3g}" if ideal is None else f"{self.low * ideal:.3g} to {self.high * ideal:.3g}"


@dataclass(frozen=True)
class Check:
    """One line of the card.

    value: name of the value without counts; over: another one that it is divided by. tells: what a bad value means.
    """

    key: str
    title: str
    value: str
    gate: Gate
    tells: str
    over: str | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Plain names of the metrics that the value comes from."""
        return tuple(name.partition("_")[0] for name in (self.value, self.over) if name)

    def read(self, values: Mapping[str, float]) -> float | None:
        """The value among all values, None where what it needs was not computed."""
        if self.value not in values or (self.over is not None and self.over not in values):
            return None
        return values[self.value] if self.over is None else values[self.value] / max(values[self.over], 1e-9)


GEOMETRY = (
    Check("depth", "Depth error", "depth", AtMost(0.6, 1, 0.25), "the shape is not the one that the pictures show"),
    Check(
        "nfs",
        "Non-flatness of the object",
        "nfs_solid",
        Around(4.0, 0.6, 1.6),
        "small: flat or missing; large: fog, or a bowl",
    ),
    Check("pose", "Pose error, rad²", "pose", AtMost(0.06, 1, 0.03), "turning the camera does not turn the object"),
    Check(
        "reprojection",
        "Reprojection error",
        "reprojection_visible",
        AtMost(0.02, 2.5, 0.003),
        "views do not agree with the depth: they flicker, or the geometry is wrong",
    ),
    Check(
        "leak", "FID at a fixed label / FID", "fid3d", AtMost(1.25), "the scene changes with the camera label", "fid"
    ),
    Check("thickness", "Surface thickness", "tightness_thickness", AtMost(0.06), "light comes from fog, not a surface"),
    Check("opaque", "Opaque share of its rays", "tightness_opaque", AtLeast(0.85, 0.1), "the object is translucent"),
    Check("identity", "Same from two sides", "id_margin", AtLeast(0.4, 0.15), "the object changes as the camera moves"),
)
FOREGROUND = (
    Check("separation", "Separation by opacity", "separation", AtLeast(0.75, 0.15), "a wall, nothing, or haze"),
    Check("mask", "Overlap with the object seen", "mask", AtLeast(0.8, 0.12), "the opaque part is not the object"),
    Check("softness", "Softness of the opacity", "separation_softness", AtMost(0.1, 1, 0.05), "haze or holes"),
    Check(
        "recomposed",
        "FID on exchanged backgrounds / FID",
        "fidfg",
        AtMost(1.25),
        "foreground and background are complete only together",
        "fid",
    ),
)
PICTURES = (
    Check("fid", "FID (lite)", "fid", AtMost(float("inf"), 1.5), "pictures unlike the real ones"),
    Check("precision", "Precision", "pr_precision", AtLeast(0.5, 0.25), "implausible pictures"),
    Check("recall", "Recall", "pr_recall", AtLeast(0.3, 0.25), "missing variety: modes have collapsed"),
    Check("modes", "Variety of drawn parameters", "modes", AtLeast(0.75, 0.05), "missing variety: modes collapsed"),
)
QUESTIONS = {
    "Is it really 3-D?": GEOMETRY,
    "Is the foreground really separate?": FOREGROUND,
    "Are the pictures like the real ones?": PICTURES,
}
