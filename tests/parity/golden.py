"""A golden file: numbers in an npz, what they are in a json; and what the checks of all kinds of file share.

The descriptions are written for people, but regularly, so that they can be read here: formulas of random arrays,
sub-sampling, seeds and options all come from the file.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

RELATIVE_TOLERANCE = 1e-3
ABSOLUTE_FLOOR = 1e-5
ROUNDING_FACTOR = 10
UNKNOWN_ROUNDING = {"max_abs": 1e-5}
"""Of files that do not state theirs: a hundredth of a grey level of 8 bits in pictures of [-1, 1]."""
INPUTS = re.compile(r"in_|.*_in_|auto_\w+_c$")
"""Names of arrays that are given, not computed."""
LOSS_NAMES = re.compile(r"(__Loss\.|__grad_norms$|__values$)")
NOISE_TOLERANCE = 3e-4
NOISE = {"Greg_fgdensity_spatial": "decoder.sigma_out.bias"}
"""Gradients by phase that vanish in exact arithmetic (a softmax ignores a shift): their norms are rounding noise."""


@dataclass(frozen=True)
class Golden:
    """One json with the arrays of its npz."""

    path: Path
    spec: dict[str, Any]
    values: dict[str, np.ndarray]

    @staticmethod
    def read(path: Path) -> Golden:
        """The golden file of a json; the npz of the same name lies beside it.

        Raises ValueError for a file that holds no arrays, such as a table of names.
        """
        spec = json.loads(path.read_text())
        if not isinstance(spec, dict) or not isinstance(spec.get("arrays"), dict):
            raise ValueError(f"{path} describes no arrays; it is no golden file")
        entries = spec["arrays"].items()
        spec["arrays"] = {name: entry if isinstance(entry, dict) else {"shape": entry} for name, entry in entries}
        with np.load(path.with_suffix(".npz")) as arrays:
            return Golden(path, spec, dict(arrays))

    @property
    def outputs(self) -> list[str]:
        """Names of the arrays to be computed; the others are inputs."""
        arrays = self.spec["arrays"]
        return [name for name in arrays if not (INPUTS.match(name) or self.meaning(name) == "labels")]

    @property
    def undescribed(self) -> list[str]:
        """Names of the arrays of the npz that the json does not speak of, inputs apart."""
        return [name for name in self.values if name not in self.spec["arrays"] and not INPUTS.match(name)]

    def entry(self, name: str) -> dict[str, Any]:
        """What the file says of an array."""
        return self.spec["arrays"][name]

    def meaning(self, name: str) -> str:
        """The description of an array in words; empty where there is none."""
        return self.entry(name).get("meaning", "")

    def tensor(self, name: str) -> Tensor:
        """An array of the file."""
        return torch.from_numpy(self.values[name])

    def tolerance(self, name: str) -> np.ndarray:
        """The largest difference that is accepted, for each number of an array.

        Ten times the difference that float32 made to the released code, and at least 1e-5; for losses and gradient
        norms a thousandth of the value, or that rounding where a value vanishes.
        """
        rounding = ROUNDING_FACTOR * self.entry(name).get("float32_vs_float64", UNKNOWN_ROUNDING)["max_abs"]
        expected = self.values[name]
        if LOSS_NAMES.search(name):
            accepted = np.maximum(np.abs(expected) * RELATIVE_TOLERANCE, rounding)
            noise = NOISE.get(self.entry(name).get("phase", ""))
            for index, parameter in enumerate(self.parameters(name)):
                if parameter == noise:
                    accepted[index] = expected.max() * NOISE_TOLERANCE
            return accepted
        return np.full(expected.shape, max(rounding, ABSOLUTE_FLOOR))

    def parameters(self, name: str) -> list[str]:
        """Official names of the parameters of an array of gradient norms; none for another array."""
        names = self.entry(name).get("names")
        return [] if names is None else self.spec["numbers"]["grad_names"][names]

    def formula(self, text: str, **names: Any) -> Tensor:
        """The float32 array of a formula such as `0.2*RandomState(seed+7).randn(1,16,16)[0]`."""
        known = {"seed": self.spec.get("seed"), "pic": pic, **FUNCTIONS, **self.values, **names}
        return torch.as_tensor(np.asarray(evaluate(text, known), dtype=np.float32))

    def assigned(self, text: str, name: str, **names: Any) -> Tensor:
        """The value that a description gives a name, as in `..., ws = RandomState(301).randn(1,14,512) (...)`."""
        return self.formula(expression_after(text, name), **names)


class Recipes:
    """How arrays are computed, by patterns of their names.

    A recipe is a function of the file's case, the match of the array's name and the array's entry in the json.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[re.Pattern[str], Callable[..., Any]]] = []

    def array(self, pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: this function computes the arrays with such names."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self._entries.append((re.compile(pattern), function))
            return function

        return register

    def include(self, other: Recipes) -> None:
        """Adds the recipes of another file."""
        self._entries += other._entries

    def find(self, name: str) -> tuple[Callable[..., Any], re.Match[str]] | None:
        """The recipe of an array and the match of its name; None where nobody knows it."""
        for pattern, function in self._entries:
            match = pattern.fullmatch(name)
            if match is not None:
                return function, match
        return None


# Reading descriptions


def pic(seed: int, res: int, n: int) -> np.ndarray:
    """A picture-like array [n, 3, res, res] in (-1, 1): coarse blocks of 8 pixels and a little noise."""
    return block_image(seed, n, res, 8)


def block_image(seed: int, n: int, res: int, block: int) -> np.ndarray:
    """The same with blocks of another size."""
    coarse = np.random.RandomState(seed).randn(n, 3, res // block, res // block).astype(np.float32)
    fine = np.random.RandomState(seed + 50).randn(n, 3, res, res).astype(np.float32)
    blocks = coarse.repeat(block, axis=2).repeat(block, axis=3)
    return np.tanh(np.float32(1.5) * blocks + np.float32(0.3) * fine)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "abs": np.abs,
    "float32": np.float32,
}
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def evaluate(text: str, names: dict[str, Any]) -> Any:
    """Value of a formula in the notation of the golden files. Raises ValueError for any other."""
    text = re.sub(r"\|([^|]*)\|", r"abs(\1)", text.replace(" as float32", ""))
    try:
        return _evaluate(ast.parse(text.strip(), mode="eval").body, names)
    except (SyntaxError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read the formula {text!r}: {error}") from error


def _evaluate(node: ast.AST, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand, names)
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](_evaluate(node.left, names), _evaluate(node.right, names))
    if isinstance(node, ast.Subscript):
        return _evaluate(node.value, names)[_index(node.slice, names)]
    if isinstance(node, ast.Call):
        arguments = [_evaluate(argument, names) for argument in node.args]
        if isinstance(node.func, ast.Attribute):
            return _random(node.func, arguments, names)
        if isinstance(node.func, ast.Name):
            return names[node.func.id](*arguments)
    raise ValueError(f"cannot read the formula {ast.unparse(node)!r}")


def _index(node: ast.AST, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(_index(item, names) for item in node.elts)
    if isinstance(node, ast.Slice):
        ends = (node.lower, node.upper, node.step)
        return slice(*(None if end is None else _evaluate(end, names) for end in ends))
    return _evaluate(node, names)


def _random(method: ast.Attribute, shape: list[int], names: dict[str, Any]) -> np.ndarray:
    """`RandomState(seed).randn(*shape)` or `.rand(*shape)`, in float32 as all random arrays of the files."""
    source = method.value
    if not (isinstance(source, ast.Call) and ast.unparse(source.func) == "RandomState"):
        raise ValueError(f"cannot read the formula {ast.unparse(method)!r}")
    state = np.random.RandomState(_evaluate(source.args[0], names))
    return {"randn": state.randn, "rand": state.rand}[method.attr](*shape).astype(np.float32)


def expression_after(text: str, name: str) -> str:
    """The formula that follows a name, with or without an equals sign, up to a comma, semicolon or remark."""
    match = re.search(rf"(?<![\w.]){re.escape(name)} (?:= )?(?=[\w|(-])", text)
    if match is None:
        raise ValueError(f"no {name!r} in {text!r}")
    rest, depth = text[match.end() :], 0
    for place, letter in enumerate(rest):
        depth += (letter in "([") - (letter in ")]")
        if depth < 0 or (depth == 0 and (letter in ",;" or rest[place:].startswith(" ("))):
            return rest[:place]
    return rest


def found(text: str, pattern: str) -> str:
    """What the one group of a pattern matches in a description. Raises ValueError where it is not found."""
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"nothing like {pattern!r} in {text!r}")
    return match[1]


def number(text: str, pattern: str) -> float:
    """The number that a pattern with one group finds in a description."""
    return float(found(text, pattern))


def truncation(text: str) -> tuple[float, int | None]:
    """The truncation that a description names: psi and the number of rows, 1 and None where it says nothing."""
    psi, cutoff = re.search(r"truncation(?:_psi)? (\d+(?:\.\d+)?)", text), re.search(r"cutoff (\d+)", text)
    return 1.0 if psi is None else float(psi[1]), None if cutoff is None else int(cutoff[1])


def every(text: str, what: str) -> slice:
    """The sub-sampling of an axis, as in `rows 7::16`; all of it where nothing is said."""
    match = re.search(rf"{what} (\d*)::(\d+)", text)
    return slice(None) if match is None else slice(int(match[1] or 0), None, int(match[2]))


def every_pixel(text: str) -> slice:
    """The sub-sampling of a picture in both directions, as in `start 2 step 4` or `step 4, start 2`."""
    match = re.search(r"start (\d+),?(?: and)? step (\d+)", text)
    if match is not None:
        return slice(int(match[1]), None, int(match[2]))
    match = re.search(r"step (\d+), start (\d+)", text)
    return slice(None) if match is None else slice(int(match[2]), None, int(match[1]))
