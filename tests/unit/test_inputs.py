"""What generated pictures are drawn from, and how a batch is cut."""

from __future__ import annotations

import pytest
import torch

from tests.unit.training_parts import camera_labels, networks, prior
from training.inputs import Draw, share, swap_with_previous
from training.layers import minibatch_std
from training.types import Camera


@pytest.fixture(scope="module")
def G():
    return networks()[0]


def test_inputs_are_fixed_by_their_name(G):
    draw = Draw(prior(), style_mixing_prob=0.5)
    first, again, other = (draw.fakes(G, 6, 0.5, name) for name in ((0, 1, "a"), (0, 1, "a"), (0, 2, "a")))
    assert first.z.shape == (6, G.z_dim)
    assert torch.equal(first.z, again.z)
    assert first.keys is not None
    assert again.keys is not None
    assert torch.equal(first.keys, again.keys)
    assert torch.equal(first.mapping_camera.cam2world, again.mapping_camera.cam2world)
    assert not torch.equal(first.z, other.z)
    assert len(torch.unique(first.keys)) == 6


def test_swap_takes_the_camera_of_the_sample_before():
    camera = Camera.from_label(camera_labels(4))
    swapped = swap_with_previous(camera, torch.tensor([True, False, True, False])).to_label()
    label = camera.to_label()
    torch.testing.assert_close(swapped, label[[3, 1, 1, 3]], rtol=0, atol=0)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0, None])
def test_swap_probability(G, probability):
    fakes = Draw(prior(1000)).fakes(G, 1000, probability, ("swap",))
    told_another = (fakes.camera.cam2world != fakes.mapping_camera.cam2world).flatten(1).any(dim=1)
    assert abs(float(told_another.float().mean()) - (probability or 0)) < 0.05


def test_background_pairs_share_foregrounds_within_every_share(G):
    z = Draw(prior(), background_pairs=True).fakes(G, 12, 0.5, ("pairs",)).z
    for micro_batch in range(2):
        part = z[share(3, 1, 2, micro_batch)]
        assert torch.equal(part[0, : G.scene_z_dim], part[1, : G.scene_z_dim])
        assert not torch.equal(part[0, G.scene_z_dim :], part[1, G.scene_z_dim :])
    independent = Draw(prior()).fakes(G, 12, 0.5, ("pairs",)).z
    assert len(torch.unique(independent[:, 0])) == 12


def test_style_mixing_happens_as_often_as_asked(G):
    draw = Draw(prior(), style_mixing_prob=0.4)
    mixes = [draw.fakes(G, 1, 0.5, (step,)).mix for step in range(200)]
    cuts = [mix.cut for mix in mixes if mix is not None]
    assert 50 < len(cuts) < 110
    assert min(cuts) == 1
    assert max(cuts) == G.scene.num_ws - 1
    assert Draw(prior()).fakes(G, 1, 0.5, (0,)).mix is None


@pytest.mark.parametrize(("processes", "micro_batches"), [(1, 1), (2, 1), (1, 4), (2, 2)])
def test_shares_cover_the_batch_once_and_keep_minibatch_groups(processes, micro_batches):
    batch, group = 16, 4
    rows = torch.arange(batch)
    shares = [rows[share(processes, r, micro_batches, m)] for r in range(processes) for m in range(micro_batches)]
    assert sorted(torch.cat(shares).tolist()) == list(range(batch))
    x = torch.randn(batch, 2, 4, 4)
    whole = minibatch_std(x, group)
    for part in shares:
        torch.testing.assert_close(minibatch_std(x[part], group), whole[part])
    for rank in range(processes):
        own = rows[rank::processes]
        for micro_batch in range(micro_batches):
            assert torch.equal(
                own[micro_batch::micro_batches], rows[share(processes, rank, micro_batches, micro_batch)]
            )
