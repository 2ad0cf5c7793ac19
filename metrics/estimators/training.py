"""Training the estimator on a data set, once, and keeping it by the content of what it was trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from metrics.cameras import Surround
from metrics.estimators.network import MAP_SIDE, SIDE, Answers, Estimator, resize
from metrics.estimators.truth import Factors, Truth
from metrics.store import Store
from torch_utils import distributed
from training.dataset import ImageDataset
from training.types import Camera

HELD_OUT = 0.1
"""Share of the pictures, at most 200, that measures the estimator itself."""


@dataclass(frozen=True)
class Recipe:
    """How an estimator is trained: steps of AdamW with a cosine schedule."""

    steps: int = 1000
    batch: int = 32
    rate: float = 2e-3
    seed: int = 0
    pictures: int = 4000


@dataclass(frozen=True)
class Trained:
    """An estimator ready for use.

    front `3 3`: the rotation that poses are told relative to. questions: what it was taught: always "pose", and
    "depth", "mask", "factors" where the data set has truth. held_out: its own errors on pictures that it has not seen.
    """

    network: Estimator
    front: Tensor
    questions: tuple[str, ...]
    held_out: dict[str, float]
    recipe: Recipe

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Answers:
        """Answers for pictures in 0..255, the rotation in the world of the data set."""
        answers = self.network(images)
        return Answers(self.front.to(images.device) @ answers.rotation, answers.depth, answers.mask, answers.factors)

    def describe(self) -> dict[str, Any]:
        """What this estimator is, for result lines."""
        return {"name": "trained on the data set", "held_out": self.held_out, **asdict(self.recipe)}


@dataclass(frozen=True)
class Lessons:
    """Pictures uint8 `n 3 64 64` and what is known of them, maps `n 1 32 32`; absent truth has no columns."""

    images: Tensor
    rotations: Tensor
    depth: Tensor
    mask: Tensor
    factors: Tensor

    def __getitem__(self, rows: Tensor) -> Lessons:
        return Lessons(self.images[rows], self.rotations[rows], self.depth[rows], self.mask[rows], self.factors[rows])


def estimator_for(
    dataset: ImageDataset, store: Store, device: torch.device | str, recipe: Recipe = Recipe(), progress: bool = True
) -> Trained:
    """The estimator of a data set, from the store or trained now by the leading process."""
    truth = Truth.beside(dataset)
    factors = None if truth is None else Factors.of(truth.scenes)
    front = Camera.from_label(Surround.of(dataset.labels).front(1)).cam2world[0, :3, :3]
    key = {
        "kind": "estimator",
        "data": dataset.content_hash,
        "truth": None if truth is None else truth.fingerprint,
        "recipe": asdict(recipe),
        "format": 1,
    }
    arrays = store.load(key) if distributed.is_main() else None
    if distributed.is_main() and arrays is None:
        lessons = prepare_lessons(dataset, truth, factors, front, recipe)
        arrays = train(lessons, recipe, device, progress)
        store.save(key, arrays)
    arrays = distributed.broadcast_object(arrays)
    assert arrays is not None
    network = Estimator(0 if factors is None else factors.size)
    network.load_state_dict({name: torch.from_numpy(np.array(arrays[name])) for name in network.state_dict()})
    questions = ("pose",) if truth is None else ("pose", "depth", "mask", "factors")
    held_out = {name[9:]: float(value) for name, value in arrays.items() if name.startswith("held_out.")}
    return Trained(network.to(device).eval().requires_grad_(False), front, questions, held_out, recipe)


def prepare_lessons(
    dataset: ImageDataset, truth: Truth | None, factors: Factors | None, front: Tensor, recipe: Recipe
) -> Lessons:
    """What there is to learn from, at the estimator's size.

    Depth is counted from the mean over all objects in units of its spread, and 0 off the objects.
    """
    chosen = np.sort(np.random.default_rng(recipe.seed).permutation(len(dataset))[: recipe.pictures]).tolist()
    images = torch.cat([resize(dataset[i][0][None].float(), SIDE).round().to(torch.uint8) for i in chosen])
    rotations = front.T @ Camera.from_label(dataset.labels[chosen]).cam2world[:, :3, :3]
    none = torch.zeros(len(chosen), 0, MAP_SIDE, MAP_SIDE)
    if truth is None or factors is None:
        return Lessons(images, rotations, none, none, torch.zeros(len(chosen), 0))
    mask = torch.cat([resize(truth.mask(i)[None], MAP_SIDE) for i in chosen])
    depths = []
    for i in chosen:
        depth = truth.depth(i)[None]
        solid = depth.isfinite().float()
        filled = resize(depth.nan_to_num(posinf=0.0) * solid, MAP_SIDE)
        depths.append(filled / resize(solid, MAP_SIDE).clamp(min=1e-6))
    depth = torch.cat(depths)
    solid = mask > 0.5
    depth = (depth - depth[solid].mean()) / depth[solid].std()
    rows = factors.rows([truth.scenes[i] for i in chosen])
    return Lessons(images, rotations, torch.where(solid, depth, 0), mask, rows)


def train(lessons: Lessons, recipe: Recipe, device: torch.device | str, progress: bool) -> dict[str, np.ndarray]:
    """Weights of an estimator after its training, with its errors on the held-out pictures as `held_out.*`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Estimator(lessons.factors.shape[1]).to(device)
    order = torch.from_numpy(np.random.default_rng(recipe.seed).permutation(len(lessons.images)))
    held = min(max(int(HELD_OUT * len(order)), 1), 200)
    shown, unseen = order[held:], order[:held]
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=recipe.steps, pct_start=0.1)
    random = torch.Generator().manual_seed(recipe.seed)
    for _ in tqdm(range(recipe.steps), desc="training the estimator", disable=not progress, leave=False):
        part = lessons[shown[torch.randint(len(shown), [recipe.batch], generator=random)]]
        images = disturbed(part.images.float(), random).to(device)
        loss = sum(errors(network(images), part, device).values(), torch.zeros([], device=device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        found = errors(network(lessons.images[unseen].to(device)), lessons[unseen], device)
    weights = {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}
    return weights | {f"held_out.{name}": np.array(float(value)) for name, value in found.items()}


def errors(answers: Answers, part: Lessons, device: torch.device | str) -> dict[str, Tensor]:
    """Mean error of each question: squared rotation difference, absolute depth, mask cross-entropy, squared factors."""
    found = {"pose": (answers.rotation - part.rotations.to(device)).square().sum(dim=[1, 2]).mean()}
    if part.mask.shape[1]:
        mask, depth = part.mask.to(device), part.depth.to(device)
        solid = mask > 0.5
        found["depth"] = ((answers.depth - depth).abs() * solid).sum() / solid.sum().clamp(min=1)
        found["mask"] = torch.nn.functional.binary_cross_entropy_with_logits(answers.mask, mask)
        found["factors"] = (answers.factors - part.factors.to(device)).square().mean()
    return found


def disturbed(images: Tensor, random: torch.Generator) -> Tensor:
    """Pictures with other brightness, contrast, tint and noise: generated ones are never quite like real ones."""
    n = len(images)
    contrast = 1 + 0.15 * torch.randn(n, 1, 1, 1, generator=random)
    tint = 12 * torch.randn(n, 3, 1, 1, generator=random)
    noise = 8 * torch.rand(n, 1, 1, 1, generator=random) * torch.randn(images.shape, generator=random)
    return ((images - 127.5) * contrast + 127.5 + tint + noise).clamp(0, 255)
