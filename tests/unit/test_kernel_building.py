"""When kernels are built, by whom, and what is said where that is impossible. The compiler here is a small script."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from torch_utils.ops import __main__ as command
from torch_utils.ops import building, kernels
from torch_utils.ops.binding import Kernels
from torch_utils.ops.building import BuildError, build, find_nvcc

ROOT = Path(__file__).resolve().parents[2]
NVCC = """#!/bin/sh
[ "$1" = --version ] && { echo "release $RELEASE"; exit; }
echo "$@" >> "$LOG"
[ -n "$FAIL" ] && { echo "nvcc fatal   : $FAIL"; exit 1; }
while [ "$1" != -o ]; do shift; done
echo built > "$2"
"""


@pytest.fixture
def toolkit(tmp_path, monkeypatch) -> Path:
    """A toolkit whose compiler notes its calls in the file that is returned, and an empty cache; paths with spaces."""
    if shutil.which("ninja") is None and not Path(sys.executable).with_name("ninja").exists():
        pytest.skip("needs ninja")
    nvcc = tmp_path / "a toolkit" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(NVCC)
    nvcc.chmod(0o755)
    sources = tmp_path / "some: $sources"
    shutil.copytree(building.SOURCES, sources)
    log = tmp_path / "calls"
    monkeypatch.setattr(building, "SOURCES", sources)
    values = {
        "CUDA_HOME": nvcc.parent.parent,
        "GAN3D_CACHE": tmp_path / "my cache",
        "LOG": log,
        "RELEASE": "1",
        "FAIL": "",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    return log


def calls(log: Path) -> int:
    return len(log.read_text().splitlines())


def test_one_build_for_each_content_compiler_and_architecture(toolkit, monkeypatch, capsys):
    steps = len(list(building.SOURCES.glob("*.cu"))) + 1
    first = build("sm_90")
    assert first.read_text() == "built\n"
    assert "Compiling CUDA kernels for sm_90, once" in capsys.readouterr().err
    assert sorted(path.name for path in first.parent.iterdir()) == ["gan3d_kernels.so", "lock"]
    assert all("-arch=sm_90" in line for line in toolkit.read_text().splitlines())
    assert build("sm_90") == first
    assert capsys.readouterr().err == ""
    assert calls(toolkit) == steps
    found = {first, build("sm_80")}
    monkeypatch.setenv("RELEASE", "2")
    found.add(build("sm_90"))
    with open(building.SOURCES / "packs.cuh", "a") as source:
        source.write("// changed\n")
    found.add(build("sm_90"))
    assert len(found) == 4
    assert calls(toolkit) == 4 * steps


def test_processes_that_start_at_once_build_once(toolkit):
    code = f"""
from pathlib import Path
from torch_utils.ops import building
building.SOURCES = Path({str(building.SOURCES)!r})
print(building.build("sm_90").read_text())
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)
    ]
    assert [process.communicate()[0].strip() for process in processes] == ["built"] * 3
    assert calls(toolkit) == len(list(building.SOURCES.glob("*.cu"))) + 1


def test_failed_builds_say_why_and_leave_nothing(toolkit, monkeypatch, tmp_path):
    monkeypatch.setenv("FAIL", "Unsupported gpu architecture 'compute_42'")
    with pytest.raises(BuildError, match=r"^ninja failed: nvcc fatal   : Unsupported gpu architecture 'compute_42'$"):
        build("sm_42")
    assert [path.name for path in tmp_path.glob("my cache/kernels/*/*")] == ["lock"]
    monkeypatch.setenv("FAIL", "")
    assert build("sm_42").exists()


def test_missing_tools_are_named(toolkit, monkeypatch):
    monkeypatch.setattr(building.shutil, "which", lambda *args, **options: None)
    with pytest.raises(BuildError, match="no build tool: pip install ninja"):
        build("sm_90")
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    monkeypatch.setattr(building, "INSTALLED", Path("/nowhere/either"))
    with pytest.raises(BuildError, match="no CUDA compiler: nvcc is neither in"):
        find_nvcc()


@pytest.fixture
def gpu(monkeypatch) -> Iterator[torch.device]:
    """A GPU by name alone."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (4, 2))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    kernels.loaded.cache_clear()
    yield torch.device("cuda", 0)
    kernels.loaded.cache_clear()


def test_one_line_where_kernels_cannot_be(toolkit, gpu, monkeypatch, capfd):
    monkeypatch.setenv("FAIL", "not today")
    assert kernels.loaded(gpu) is None
    assert kernels.loaded(gpu) is None
    compiling, off = capfd.readouterr().err.splitlines()
    assert compiling.startswith("Compiling CUDA kernels for sm_42")
    assert off == (
        "CUDA kernels are off (ninja failed: nvcc fatal   : not today): filters, activations and look-ups run in plain "
        "torch, slower and with more memory."
    )


def test_what_was_built_must_load_and_agree(toolkit, gpu, monkeypatch, capfd):
    assert kernels.loaded(gpu) is None
    assert re.search(r"CUDA kernels are off \(.*gan3d_kernels\.so.*\): filters", capfd.readouterr().err)
    monkeypatch.setattr(kernels, "Kernels", lambda path: path)
    monkeypatch.setattr("torch_utils.ops.agreement.disagreement", lambda found, device: "bias_act is wrong")
    kernels.loaded.cache_clear()
    assert kernels.loaded(gpu) is None
    assert capfd.readouterr().err.startswith("CUDA kernels are off (bias_act is wrong): ")
    monkeypatch.setattr("torch_utils.ops.agreement.disagreement", lambda found, device: None)
    kernels.loaded.cache_clear()
    assert kernels.loaded(gpu) is not None
    assert capfd.readouterr() == ("", "")


def test_the_comparison_meets_none_of_the_modes_of_its_caller(toolkit, gpu, monkeypatch):
    seen = []

    def disagreement(found, device) -> None:
        seen.append(torch.is_inference_mode_enabled() or not torch.is_grad_enabled())

    monkeypatch.setattr(kernels, "Kernels", lambda path: path)
    monkeypatch.setattr("torch_utils.ops.agreement.disagreement", disagreement)
    with torch.inference_mode():
        kernels.loaded(gpu)
    assert seen == [False]


def test_errors_of_cuda_are_told_in_its_words():
    found = Kernels.__new__(Kernels)
    setattr(found, "_error", lambda code: b"invalid argument" if code == 1 else b"")  # noqa: B010

    def gan3d_wrong(*arguments) -> int:
        return 1

    with pytest.raises(RuntimeError, match="gan3d_wrong did not start: invalid argument"):
        found._launch(gan3d_wrong, torch.zeros(1))


def test_kernels_serve_gpus_alone_and_can_be_turned_off(monkeypatch):
    monkeypatch.setattr(kernels, "_usable", lambda device: True)
    x = torch.zeros(2)
    assert not kernels.serve(x)
    on_gpu = type("OnGpu", (), {"is_cuda": True, "dtype": torch.float32, "numel": lambda self: 4, "device": "cuda"})()
    assert kernels.serve(on_gpu, None, on_gpu)
    assert not kernels.serve(on_gpu, x)
    for name, value in (("dtype", torch.float64), ("numel", lambda: 2**31)):
        with monkeypatch.context() as patch:
            patch.setattr(on_gpu, name, value, raising=False)
            assert not kernels.serve(on_gpu)
    kernels.use(False)
    try:
        assert not kernels.serve(on_gpu)
    finally:
        kernels.use(True)


def test_command_builds_and_reports(toolkit, gpu, monkeypatch):
    monkeypatch.setattr(kernels, "checked", lambda device: None)
    result = CliRunner().invoke(command.main)
    assert result.exit_code == 0, result.output
    assert re.search(
        r"compiler: .*nvcc\n(.*\n)?sm_42: .*gan3d_kernels\.so \(\d+\.\d s\)\ncuda:0 \(GPU\): agrees", result.output
    )
    monkeypatch.setenv("FAIL", "not today")
    result = CliRunner().invoke(command.main, ["--architecture", "sm_100"])
    assert result.exit_code == 1
    assert "CUDA kernels are off: ninja failed: nvcc fatal   : not today" in result.output


def test_command_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    result = CliRunner().invoke(command.main)
    assert result.exit_code == 0
    assert result.output == "no GPU here: plain torch runs. To compile all the same: --architecture sm_90\n"


def test_runs_on_processors_say_nothing_of_cuda():
    code = """
import torch
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.upfirdn2d import setup_filter, upsample2d
bias_act(upsample2d(torch.zeros(1, 1, 4, 4), setup_filter([1, 3, 3, 1])), act="lrelu")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (result.stdout, result.stderr) == ("", "")
