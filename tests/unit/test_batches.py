"""Order, sharing between processes and exact continuation of the endless batches."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch

from tests.unit.test_dataset import label, names, open_set, picture, png
from training.batches import Batches, WindowShuffle

# First items of StyleGAN2's published order.
PUBLISHED_ORDERS = [
    (10, 1, 0, [2, 8, 4, 9, 1, 6, 2, 3, 0, 9, 7, 8, 1, 5, 6, 4, 3, 8, 2, 1]),
    (10, 2, 0, [2, 4, 1, 2, 0, 7, 1, 6, 3, 2, 9, 7, 8, 0, 6, 3, 2, 4, 6, 1]),
    (10, 2, 1, [8, 9, 6, 3, 9, 8, 5, 4, 8, 1, 6, 5, 4, 9, 7, 1, 8, 7, 3, 8]),
    (3, 1, 0, [2, 1, 2, 0, 2, 0, 2, 0, 2, 0, 2, 1, 0, 1, 2, 0, 1, 2, 0, 2]),
    (1, 1, 0, [0] * 20),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(names(23)):
            archive.writestr(name, png(picture(i)))
        archive.writestr("dataset.json", json.dumps({"labels": [[n, label(i)] for i, n in enumerate(names(23))]}))
    return open_set(str(path))


@pytest.mark.parametrize(("size", "replicas", "rank", "expected"), PUBLISHED_ORDERS)
def test_published_order(size, replicas, rank, expected):
    assert WindowShuffle(size, seed=0).take(20 * replicas)[rank::replicas].tolist() == expected


def test_all_items_come_equally_often():
    counts = np.bincount(WindowShuffle(100, seed=3).take(5000))
    assert counts.min() > 40
    assert counts.max() < 60


def test_order_continues_exactly():
    whole = WindowShuffle(50, seed=5)
    expected = whole.take(300)
    first = WindowShuffle(50, seed=5)
    first.take(111)
    second = WindowShuffle(50, seed=9)
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert second.position == 111
    assert np.array_equal(second.take(189), expected[111:])


def test_state_of_another_set_is_refused():
    with pytest.raises(ValueError, match="of 50 pictures, not 49"):
        WindowShuffle(49).load_state_dict(WindowShuffle(50).state_dict())


def collect(batches, count):
    pairs = [next(batches) for _ in range(count)]
    return torch.stack([images for images, _ in pairs]), torch.stack([labels for _, labels in pairs])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_does_not_depend_on_workers(dataset, workers):
    with Batches(dataset, 4, seed=2, workers=workers) as batches:
        images, labels = collect(batches, 9)
    indices = WindowShuffle(23, seed=2).take(36).reshape(9, 4)
    assert torch.equal(images, torch.stack([dataset.gather(row.tolist())[0] for row in indices]))
    assert torch.equal(labels, torch.stack([dataset.labels[row] for row in indices]))


def test_ranks_share_one_global_batch(dataset):
    alone = collect(Batches(dataset, 6, seed=1, workers=0), 5)[0]
    shares = [collect(Batches(dataset, 3, seed=1, rank=r, world_size=2, workers=2), 5)[0] for r in range(2)]
    assert torch.equal(torch.stack(shares, dim=2).flatten(1, 2), alone)


@pytest.mark.parametrize(("workers", "workers_later"), [(0, 3), (3, 0), (2, 2)])
def test_continues_bit_for_bit(dataset, workers, workers_later):
    with Batches(dataset, 4, seed=7, workers=2) as batches:
        expected = collect(batches, 12)[0]
    with Batches(dataset, 4, seed=7, workers=workers) as batches:
        collect(batches, 5)
        state = pickle.loads(pickle.dumps(batches.state_dict()))
    with Batches(dataset, 4, seed=0, workers=workers_later) as batches:
        next(batches)
        batches.load_state_dict(state)
        assert torch.equal(collect(batches, 7)[0], expected[5:])


def test_state_loads_as_plain_tensors(dataset, tmp_path):
    torch.save(Batches(dataset, 4, workers=0).state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["position"] == 0


def test_errors_of_threads_reach_the_caller(dataset):
    batches = Batches(dataset, 4, workers=2)
    dataset_name = dataset.image_names[0]
    broken = open_set(str(dataset.archive.path))
    broken.image_names[3] = "missing.png"
    with Batches(broken, 23, workers=2) as failing, pytest.raises(ValueError, match=r"missing\.png"):
        next(failing)
    assert dataset.image_names[0] == dataset_name
    batches.close()
