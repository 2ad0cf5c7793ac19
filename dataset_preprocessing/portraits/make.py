"""A posed set of portraits out of photographs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dataset_preprocessing.building import numbered_names
from dataset_preprocessing.cameras import project
from dataset_preprocessing.parallel import ordered_map
from dataset_preprocessing.pictures import decode, encode_png, upright
from dataset_preprocessing.portraits.alignment import MODEL_ORIGIN, UNITS_PER_CM, FaceCrop, align
from dataset_preprocessing.portraits.face_model import FaceModel
from dataset_preprocessing.portraits.landmarks import find_face, person_mask
from dataset_preprocessing.report_page import draw_axes
from dataset_preprocessing.sources import image_names
from dataset_preprocessing.storage import open_writer, remaining
from training.archive import LABEL_FILE, ArchiveError, Source

_CUT_LIMIT = 4096


@dataclass(frozen=True)
class PortraitOptions:
    """How portraits are cut: size in pixels, whether heads keep their roll, whether masks are made, confidence."""

    resolution: int = 512
    keep_roll: bool = False
    matting: bool = False
    least_confidence: float = 0.5


def make_portraits(
    dest: Path, source: Source, model: FaceModel, options: PortraitOptions, overlays: Path | None, workers: int
) -> tuple[int, list[str]]:
    """Make a set of all photographs with a face; their number and the faults of the others come back.

    With matting a second archive (`-masks`) gets the masks. `overlays`: folder for pictures with the fitted face.
    Raises ArchiveError where no photograph has a face.
    """
    photos = image_names(source)
    found: list[tuple[str, FaceCrop]] = []
    left_out = []
    look = partial(_analyse, source=source, model=model, options=options)
    for photo, crop in zip(photos, ordered_map(look, photos, workers, "finding faces"), strict=True):
        if isinstance(crop, str):
            left_out.append(crop)
        else:
            found.append((photo, crop))
    if not found:
        raise ArchiveError(f"{source.path}: no photograph has a face that can be used; {left_out[0]}")
    _write(dest, source, found, options, workers)
    if overlays is not None:
        overlays.mkdir(parents=True, exist_ok=True)
        for name, (photo, crop) in zip(numbered_names(len(found)), found, strict=True):
            picture = cut(upright(decode(source.read(photo), photo)).convert("RGB"), crop, 512)
            overlay(picture, crop, model).save(overlays / Path(name).name)
    return len(found), left_out


def cut(image: Image.Image, crop: FaceCrop, resolution: int) -> Image.Image:
    """The crop of an RGB or grey photograph, `resolution` pixels wide; mirrored at the photograph's edges."""
    corners = crop.corners()
    margin = int(np.ceil(max(0, -corners.min(), (corners - image.size).max()))) + 2
    pixels = np.asarray(image)
    limit = min(margin, 4 * max(image.size))
    around = [(limit, limit), (limit, limit), (0, 0)][: pixels.ndim]
    padded = Image.fromarray(np.pad(pixels, around, mode="symmetric"))
    side = min(max(resolution, int(np.ceil(crop.size))), _CUT_LIMIT)
    quad = tuple((corners + limit).ravel().tolist())
    square = padded.transform((side, side), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
    return square if side == resolution else square.resize((resolution, resolution), Image.Resampling.LANCZOS)


def overlay(picture: Image.Image, crop: FaceCrop, model: FaceModel) -> Image.Image:
    """The picture with the fitted face's points and the world's axes drawn on it."""
    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    places = project(crop.label, model.points * UNITS_PER_CM + MODEL_ORIGIN)[0] * picture.size
    for x, y in places:
        pen.point([(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)], fill=(80, 255, 120))
    draw_axes(drawn, crop.label)
    return drawn


def _analyse(photo: str, source: Source, model: FaceModel, options: PortraitOptions) -> FaceCrop | str:
    """The crop of the largest face, or why there is none."""
    where = f"{source.path}: {photo}"
    try:
        image = upright(decode(source.read(photo), where)).convert("RGB")
        landmarks = find_face(image, options.least_confidence)
        if landmarks is None:
            return f"{where}: no face found"
        return align(landmarks, model, options.keep_roll)
    except ArchiveError as error:
        return str(error) if str(error).startswith(where) else f"{where}: {error}"


def _cut_files(item: tuple[str, FaceCrop], source: Source, options: PortraitOptions) -> tuple[bytes, bytes]:
    photo, crop = item
    image = upright(decode(source.read(photo), photo)).convert("RGB")
    picture = cut(image, crop, options.resolution)
    mask = encode_png(Image.fromarray(person_mask(picture))) if options.matting else b""
    return encode_png(picture), mask


def _write(
    dest: Path, source: Source, found: list[tuple[str, FaceCrop]], options: PortraitOptions, workers: int
) -> None:
    names = numbered_names(len(found))
    plan = {"work": "portraits", "options": asdict(options), "crops": [[photo, asdict(crop)] for photo, crop in found]}
    mask_dest = dest.with_name(f"{dest.stem}-masks{dest.suffix}")
    facts: dict[str, Any] = {"labels": [[name, crop.label] for name, (_, crop) in zip(names, found, strict=True)]}
    facts["sources"] = [[name, photo, crop.error] for name, (photo, crop) in zip(names, found, strict=True)]
    with open_writer(dest, plan) as writer:
        todo = set(remaining(writer, names))
        items = [item for name, item in zip(names, found, strict=True) if name in todo]
        made = ordered_map(partial(_cut_files, source=source, options=options), items, workers, "cutting")
        masks = {}
        for name, (png, mask) in zip([name for name in names if name in todo], made, strict=True):
            writer.add(name, png)
            masks[name] = mask
        writer.add(LABEL_FILE, json.dumps(facts).encode())
    if options.matting:
        with open_writer(mask_dest, plan) as mask_writer:
            for name in remaining(mask_writer, names):
                mask_writer.add(name, masks[name])
