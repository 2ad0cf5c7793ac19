"""Writes files in the layout of the published snapshots, without the published classes."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.parity.fill import filled
from training.scene.lookup import PLANE_AXES

PUBLISHED = Path(__file__).parent / "parity" / "published"
"""Tables of names and shapes of full-size and tiny networks, and pictures of the tiny ones."""
HOOKS = ("_backward_hooks", "_forward_hooks", "_state_dict_hooks")


@dataclass(frozen=True)
class GlobalName:
    """A global that is pickled by name although nothing of that name need exist."""

    module: str
    name: str

    def __call__(self):
        raise AssertionError("only for pickling")


@dataclass
class Module:
    """A network of the published code: attributes, tensors by name, parts by name.

    reference: the module that its class is pickled by; None for classes that are pickled with their source.
    """

    class_name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    parts: dict[str, Module] = field(default_factory=dict)
    reference: str | None = None
    source: str = "raise SystemExit('this source must never run')"

    def state(self) -> dict[str, Any]:
        return {
            "training": False,
            "_parameters": self.parameters,
            "_buffers": self.buffers,
            "_non_persistent_buffers_set": set(),
            **{name: {} for name in HOOKS},
            "_modules": self.parts,
            **self.attributes,
        }

    def __reduce__(self):
        if self.reference is not None:
            return GlobalName(self.reference, self.class_name), (), self.state()
        description = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": self.class_name,
            "state": self.state(),
        }
        return GlobalName("torch_utils.persistence", "_reconstruct_persistent_obj"), (description,)


PythonPickler: Any = pickle._Pickler  # the one whose treatment of globals can be changed


class OfficialPickler(PythonPickler):
    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, GlobalName):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        else:
            super().save(obj, save_persistent_id)


def official_bytes(contents: Any) -> bytes:
    file = io.BytesIO()
    OfficialPickler(file, protocol=4).dump(contents)
    return file.getvalue()


def module_tree(class_name: str, kwargs: dict, tensors: dict[str, Tensor], attributes: dict | None = None) -> Module:
    """A network with the given constructor arguments and tensors by their full names."""
    root = Module(class_name, {"_init_args": (), "_init_kwargs": kwargs} | (attributes or {}))
    for key, tensor in tensors.items():
        *path, name = key.split(".")
        module = root
        for part in path:
            module = module.parts.setdefault(part, Module("Part"))
        kind = module.parameters if isinstance(tensor, torch.nn.Parameter) else module.buffers
        kind[name] = tensor
    return root


def write_official(path: Path, **networks: Module | None) -> Path:
    kwargs = {"class_name": "training.dataset.ImageFolderDataset", "path": "tiny.zip", "use_labels": True}
    path.write_bytes(official_bytes({"training_set_kwargs": kwargs, **networks, "augment_pipe": None}))
    return path


def tiny_snapshot(path: Path, system: str, **attributes: Any) -> Path:
    """Writes the tiny snapshot of a system, weights filled by the rule of the golden files; G_ema is G itself."""
    spec = json.loads((PUBLISHED / f"{system}_tiny.json").read_text())
    attributes = {
        "rendering_kwargs": spec["G_kwargs"]["rendering_kwargs"],
        "neural_rendering_resolution": 16,
        "w_dim": spec["G_kwargs"]["w_dim"],
    } | attributes
    renderer = Module("ImportanceRenderer", reference="training.volumetric_rendering.renderer")
    renderer.attributes["plane_axes"] = axes_matrices(PLANE_AXES["legacy"])
    G = module_tree("TriPlaneGenerator", spec["G_kwargs"], parameters(spec["G"]), attributes)
    G.parts["renderer"] = renderer
    D = module_tree("DualDiscriminator", spec["D_kwargs"], parameters(spec["D"]))
    return write_official(path, G=G, D=D, G_ema=G)


def parameters(table: list) -> dict[str, Tensor]:
    """Filled tensors of a table; zero maps take one element of memory."""
    tensors = filled(row for row in table if row[2] != "zero")
    return {key: torch.zeros(1).expand(shape) if kind == "zero" else tensors[key] for key, shape, kind, _ in table}


def axes_matrices(axes: tuple[tuple[int, int], ...]) -> Tensor:
    """Three planes as the published code states them: rows of unit vectors, the plane's two axes and the third."""
    return torch.stack([torch.eye(3)[[*pair, 3 - sum(pair)]] for pair in axes])
