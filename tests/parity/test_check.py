"""The checker itself: it reads the notation of the files, finds every difference and says so by its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.parity import gaps
from tests.parity.check import compare, kind_of, main
from tests.parity.fill import fill
from tests.parity.generator import changed_options
from tests.parity.golden import Golden, evaluate, every, every_pixel, expression_after, truncation

SMALL = Path(__file__).parent / "goldens" / "eg3d" / "cameras_a.json"


def write(folder: Path, spec: dict, values: dict) -> str:
    (folder / "copy.json").write_text(json.dumps(spec))
    np.savez(folder / "copy.npz", **values)
    return str(folder / "copy.json")


@pytest.fixture
def golden() -> tuple[dict, dict]:
    with np.load(SMALL.with_suffix(".npz")) as values:
        return json.loads(SMALL.read_text()), dict(values)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


def test_a_file_that_holds(golden, tmp_path):
    status, output = run(write(tmp_path, *golden))
    assert status == 0
    assert "27 of 27 hold" in output


def test_any_subset_of_arrays_can_be_checked(golden, tmp_path):
    spec, values = golden
    kept = ["fov_50", "lookat_2_1"]
    spec["arrays"] = {name: spec["arrays"][name] for name in kept}
    status, output = run(write(tmp_path, spec, {name: values[name] for name in kept}))
    assert status == 0
    assert "2 of 2 hold" in output


def test_one_wrong_number_is_found(golden, tmp_path):
    spec, values = golden
    values["fov_50"][0, 0] += 3e-5
    status, output = run(write(tmp_path, spec, values), str(SMALL))
    assert status == 1
    assert "26 of 27 hold" in output
    assert "27 of 27 hold" in output
    assert [line.split()[0] for line in output.splitlines() if "FAILED" in line] == ["fov_50"]


def test_an_unknown_array_counts_as_a_failure(golden, tmp_path):
    spec, values = golden
    spec["arrays"]["mystery"] = {"shape": [1]}
    status, output = run(write(tmp_path, spec, values | {"mystery": np.zeros(1)}))
    assert status == 1
    assert "not checked" in output


def test_an_array_that_nothing_describes_counts_as_a_failure(golden, tmp_path):
    spec, values = golden
    status, output = run(write(tmp_path, spec, values | {"mystery": np.zeros(1), "in_other": np.zeros(1)}))
    assert status == 1
    assert "27 of 28 hold" in output
    assert "not described" in output


def test_files_of_gaps_need_no_numbers():
    assert kind_of(Golden(SMALL, {"arrays": {}, "state_dicts": {}}, {})) is gaps


def test_other_options_are_read_from_the_file(golden, tmp_path):
    spec, values = golden
    spec["arrays"]["fov_50"]["fov_degrees"] = 40
    spec["arrays"]["lookat_0_0"] |= {"radius": 2.0, "horizontal_mean": 1.0}
    status, output = run(write(tmp_path, spec, values))
    assert status == 1
    failed = [line.split()[0] for line in output.splitlines() if "FAILED" in line]
    assert {"fov_50", "lookat_0_0", "ray_origins"} <= set(failed)
    assert "lookat_1_0" not in failed


def test_an_array_whose_description_cannot_be_read_says_why(golden, tmp_path):
    spec, values = golden
    spec["arrays"]["plane_features"]["op"] = "something else"
    status, output = run(write(tmp_path, spec, values))
    assert status == 1
    assert "ValueError: nothing like 'planes" in output


def test_files_without_arrays_are_refused(tmp_path):
    (tmp_path / "table.json").write_text("{}")
    status, output = run(str(tmp_path / "table.json"), str(SMALL))
    assert status == 1
    assert "describes no arrays" in output
    assert "27 of 27 hold" in output, "the other files are checked all the same"
    status, output = run("--snapshot", str(SMALL), str(SMALL), str(SMALL))
    assert status == 2
    assert "the one json that describes it" in output


def test_compare_minds_shapes_and_nan():
    one = np.ones(3)
    assert compare("x", one, one, np.zeros(3)).ratio == 0
    assert compare("x", one + 2e-5, one, np.full(3, 1e-5)).ratio == pytest.approx(2)
    assert not compare("x", one * np.nan, one, one).holds
    assert "shape [3] instead of [2]" in str(compare("x", one, one[:2], one[:2]))


def test_tolerances_follow_the_kind_of_array():
    entry = {"float32_vs_float64": {"max_abs": 1e-7}}
    spec = {"arrays": {"image": entry, "Gmain__Loss.G.loss": entry, "free": {}}}
    golden = Golden(Path("x"), spec, {name: np.array([2.0, 0.0]) for name in spec["arrays"]})
    assert golden.tolerance("image").tolist() == [1e-5, 1e-5]
    assert golden.tolerance("Gmain__Loss.G.loss").tolist() == pytest.approx([2e-3, 1e-6])
    assert golden.tolerance("free").tolist() == pytest.approx([1e-4, 1e-4])


def test_formulas():
    draws = np.random.RandomState(9).randn(2, 3).astype(np.float32)
    assert np.array_equal(evaluate("1+0.3*RandomState(seed+2).randn(2,n)[0]", {"seed": 7, "n": 3}), 1 + 0.3 * draws[0])
    assert np.array_equal(evaluate("2+|RandomState(9).randn(2,3)|", {"abs": np.abs}), 2 + np.abs(draws))
    uniform = np.random.RandomState(4).rand(2).astype(np.float32)
    shifted = evaluate("(RandomState(4).rand(2) as float32 - 0.5)*float32(1.1)", {"float32": np.float32})
    assert np.array_equal(shifted, (uniform - 0.5) * np.float32(1.1))
    assert np.array_equal(evaluate("x[:, 1:3]", {"x": draws}), draws[:, 1:3])
    for wrong in ("import os", "__import__('os')", "x.real", "RandomState(1).bytes(3)", "unknown + 1"):
        with pytest.raises(ValueError, match="cannot read the formula"):
            evaluate(wrong, {"x": draws})


def test_descriptions():
    text = "Class 2X; x = tanh(f(1,2)); features = 300*x, rows 7::16, columns ::5; output start 2 step 4 (half)"
    assert expression_after(text, "x") == "tanh(f(1,2))"
    assert expression_after(text, "features") == "300*x"
    assert every(text, "rows") == slice(7, None, 16)
    assert every(text, "columns") == slice(0, None, 5)
    assert every(text, "channels") == slice(None)
    assert every_pixel(text) == slice(2, None, 4)
    assert every_pixel("with step 8, start 4") == slice(4, None, 8)
    options = {"disparity": False, "other": 1}
    assert changed_options("a = b = 'auto', box 1.5, disparity toggled", options) == {
        "a": "auto",
        "b": "auto",
        "box": 1.5,
        "disparity": True,
    }
    assert changed_options("pivot [0, 0, 0.1], radius 2, white toggled", {}) == {
        "pivot": [0, 0, 0.1],
        "radius": 2,
        "white": True,
    }
    assert truncation("truncation_psi 0.7, no cutoff") == (0.7, None)
    assert truncation("same with truncation 0.6, cutoff 2") == (0.6, 2)
    assert truncation("truncation_psi 0.5, truncation_cutoff 3.") == (0.5, 3)
    assert truncation("no truncation") == (1.0, None)


def test_fill_rule():
    assert fill("any", [2], "zero", None).tolist() == [0, 0]
    assert fill("b.resample_filter", [4, 4], "constant", None).sum() == pytest.approx(1)
    weight, bias = fill("key", [3], "weight", 0.5), fill("key", [3], "affine_bias", 0.5)
    np.testing.assert_allclose(bias, 1 + weight)
    assert fill("key", [], "noise_strength", 1.0).ndim == 0
    with pytest.raises(ValueError, match="no rule to fill the kind 'new'"):
        fill("key", [1], "new", 1.0)
    with pytest.raises(ValueError, match="no constant of that name"):
        fill("key", [1], "constant", None)
