"""Two processes as one."""

from __future__ import annotations

import pytest
import torch

from torch_utils import distributed
from torch_utils.training_stats import Collector


def test_alone_nothing_is_needed():
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.broadcast_object({"a": 1}) == {"a": 1}
    assert distributed.gather_objects(3) == [3]
    assert distributed.any_process(True)
    assert distributed.join(0, 1, "cpu") == torch.device("cpu")


def test_gradients_are_mended():
    parameters = [torch.nn.Parameter(torch.zeros(4)), torch.nn.Parameter(torch.zeros(2))]
    parameters[0].grad = torch.tensor([float("nan"), float("inf"), -float("inf"), 2e5])
    distributed.average_gradients(parameters)
    assert parameters[0].grad.tolist() == [0, 1e5, -1e5, 2e5]
    assert parameters[1].grad is None


def work(rank: int, processes: int, address: str, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.join(rank, processes, "cpu", address)
    large = torch.full([distributed.BUCKET_ELEMENTS], float(rank))
    parameters = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(5)), torch.nn.Parameter(large)]
    parameters[0].grad = torch.full([3, 2], 1.0 + rank).t()
    parameters[2].grad = large.clone()
    distributed.average_gradients(parameters)

    module = torch.nn.BatchNorm1d(2)
    torch.nn.init.constant_(module.weight, rank + 5)
    distributed.broadcast_module(module)

    collector = Collector()
    collector.report("x", torch.arange(3.0) + 3 * rank)
    result = {
        "gradients": [parameter.grad for parameter in parameters],
        "weight": module.weight.detach(),
        "any": [distributed.any_process(rank == 1), distributed.any_process(False)],
        "object": distributed.broadcast_object(f"from {rank}"),
        "objects": distributed.gather_objects(rank),
        "moments": collector.read()["x"].to_dict(),
    }
    torch.save(result, f"{folder}/{rank}.pt")
    distributed.leave()


def test_two_processes_agree(tmp_path):
    distributed.run_processes(work, 2, str(tmp_path))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(found["gradients"][0], torch.full([2, 3], 1.5))
        assert found["gradients"][1] is None
        assert found["gradients"][2].unique().tolist() == [0.5]
        assert found["weight"].tolist() == [5, 5]
        assert found["any"] == [True, False]
        assert found["object"] == "from 0"
        assert found["objects"] == [0, 1]
        assert found["moments"] == {"num": 6, "mean": 2.5, "std": pytest.approx(1.7078, abs=1e-4)}
