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
from metrics.estimators.recipe import Recipe
from metrics.estimators.truth import Factors, Truth
from metrics.store import Store
from metrics.workers import together
from torch_utils import distributed
from training.dataset import ImageDataset
from training.types import Camera

HELD_OUT = 0.15
"""Share of the pictures, at most 400, that measures the estimator itself."""


@dataclass(frozen=True)
class Trained:
    """An estimator ready for use.

    front `3 3`: the rotation that poses are told relative to. unseen: numbers of the data set's pictures that it was
    not trained on; held_out: its errors on them.
    """

    network: Estimator
    front: Tensor
    unseen: tuple[int, ...]
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
    dataset: ImageDataset, store: Store, device: torch.device | str, recipe: Recipe, progress: bool = True
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
        "format": 2,
    }
    with together():
        arrays = store.load(key) if distributed.is_main() else None
        if distributed.is_main() and arrays is None:
            lessons = prepare_lessons(dataset, truth, factors, front, recipe)
            arrays = train(lessons, recipe, device, progress)
            store.save(key, arrays)
    arrays = distributed.broadcast_object(arrays)
    assert arrays is not None
    network = Estimator(0 if factors is None else factors.size)
    _, unseen = division(len(dataset), recipe)
    network.load_state_dict({name: torch.from_numpy(np.array(arrays[name])) for name in network.state_dict()})
    held_out = {name[9:]: float(value) for name, value in arrays.items() if name.startswith("held_out.")}
    return Trained(network.to(device).eval().requires_grad_(False), front, tuple(unseen), held_out, recipe)


def prepare_lessons(
    dataset: ImageDataset, truth: Truth | None, factors: Factors | None, front: Tensor, recipe: Recipe
) -> Lessons:
    """What there is to learn from, at the estimator's size; the held-out pictures come last.

    Depth is counted from the mean over all objects in units of its spread, and 0 off the objects.
    """
    shown, unseen = division(len(dataset), recipe)
    chosen = shown + unseen
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


def division(count: int, recipe: Recipe) -> tuple[list[int], list[int]]:
    """Numbers of the pictures to train on and of those held out, of a data set of `count`."""
    order = np.random.default_rng(recipe.seed).permutation(count)[: recipe.pictures].tolist()
    held = min(max(int(HELD_OUT * len(order)), 1), 400)
    return order[held:], order[:held]


def train(lessons: Lessons, recipe: Recipe, device: torch.device | str, progress: bool) -> dict[str, np.ndarray]:
    """Weights of an estimator after its training, with its errors on the held-out pictures as `held_out.*`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Estimator(lessons.factors.shape[1]).to(device)
    held = len(division(len(lessons.images), recipe)[1])
    shown, unseen = torch.arange(len(lessons.images)).tensor_split([len(lessons.images) - held])
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
    if part.factors.shape[1]:
        found["factors"] = (answers.factors - part.factors.to(device)).square().mean()
    return found


def disturbed(images: Tensor, random: torch.Generator) -> Tensor:
    """Pictures with other brightness, contrast, tint and noise: generated ones are never quite like real ones."""
    n = len(images)
    contrast = 1 + 0.15 * torch.randn(n, 1, 1, 1, generator=random)
    tint = 12 * torch.randn(n, 3, 1, 1, generator=random)
    noise = 8 * torch.rand(n, 1, 1, 1, generator=random) * torch.randn(images.shape, generator=random)
    return ((images - 127.5) * contrast + 127.5 + tint + noise).clamp(0, 255)
