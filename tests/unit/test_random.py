"""Random streams of samples: the same however a batch is cut."""

from __future__ import annotations

import math

import pytest
import torch

from torch_utils import random


def draws(keys: torch.Tensor) -> list[torch.Tensor]:
    with random.per_sample(keys):
        n = len(keys)
        return [random.uniform([n, 7, 3]), random.normal([n]), random.normal([n, 5]), random.uniform([n, 7, 3])]


def test_samples_keep_their_numbers_however_a_batch_is_cut():
    keys = random.sample_keys((0, 3, "phase"), torch.arange(6))
    whole = draws(keys)
    for rows in (slice(0, None, 2), slice(1, None, 3), slice(4, 5)):
        for part, all_rows in zip(draws(keys[rows]), whole, strict=True):
            torch.testing.assert_close(part, all_rows[rows], rtol=0, atol=0)


def test_streams_differ_between_names_samples_and_draws():
    first, again, other = (draws(random.sample_keys((name,), torch.arange(2))) for name in ("a", "a", "b"))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[3])
    assert not torch.equal(first[0][0], first[0][1])
    assert random.seed_of((1, "a")) != random.seed_of((1, "b"))


def test_distributions():
    with random.per_sample(random.sample_keys(("moments",), torch.arange(4))):
        uniform, normal = random.uniform([4, 50_000]), random.normal([4, 50_000])
    assert uniform.min() >= 0
    assert uniform.max() < 1
    counts = torch.histc(uniform, bins=20, min=0, max=1)
    assert ((counts - 10_000).abs() < 5 * math.sqrt(10_000)).all()
    assert abs(float(normal.mean())) < 0.01
    assert abs(float(normal.std()) - 1) < 0.01
    assert abs(float((normal**4).mean()) - 3) < 0.1
    neighbours = torch.corrcoef(torch.stack([uniform[:, :-1].flatten(), uniform[:, 1:].flatten()]))[0, 1]
    samples = torch.corrcoef(uniform)[0, 1]
    assert max(abs(float(neighbours)), abs(float(samples))) < 0.02


def test_outside_a_block_torch_draws():
    torch.manual_seed(3)
    expected = torch.rand(2, 3), torch.randn(4)
    torch.manual_seed(3)
    assert torch.equal(random.uniform([2, 3]), expected[0])
    with random.per_sample(None):
        assert torch.equal(random.normal([4]), expected[1])


def test_a_draw_for_another_batch_is_an_error():
    keys = random.sample_keys(("x",), torch.arange(3))
    with random.per_sample(keys), pytest.raises(ValueError, match=r"shape \[2, 4\] inside a block for 3 samples"):
        random.uniform([2, 4])


def test_one_by_one_draws_what_the_batch_draws():
    keys = random.sample_keys(("test",), torch.arange(3))
    with random.per_sample(keys):
        random.uniform([3, 2])
        batch, after = random.normal([3, 4]), random.uniform([3])
    with random.per_sample(keys):
        random.uniform([3, 2])
        rows = [random.normal([1, 4]) for _ in random.one_by_one(3)]
        assert torch.equal(random.uniform([3]), after)
    assert torch.equal(torch.cat(rows), batch)
    assert [rows.start for rows in random.one_by_one(3)] == [0, 1, 2]
