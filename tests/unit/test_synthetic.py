"""The rendered test bed: geometry against closed forms and between views, ground truth against pictures, files."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from dataset_preprocessing import cameras
from dataset_preprocessing.building import numbered_names
from dataset_preprocessing.synthetic import Renderer, Scene, sample_scene, to_bytes
from dataset_preprocessing.synthetic.critter import COATS, EARS, EXTRAS, FACES, SIZE, build
from dataset_preprocessing.synthetic.make import RANGES, Options, draw, make_set
from dataset_preprocessing.synthetic.solids import Solid, shadowed, trace
from dataset_preprocessing.synthetic.surroundings import PLACES, Surroundings, View
from training.dataset import DataConfig, ImageDataset

OPTIONS = Options(resolution=32, seed=3, white=False, camera_range="frontal", views=1, supersampling=3)


def orbit_label(azimuth: float, elevation: float) -> np.ndarray:
    pose = cameras.look_at(cameras.orbit_position(azimuth, elevation, cameras.EG3D_RADIUS))
    return cameras.make_label(pose, cameras.intrinsics(cameras.EG3D_FOCAL))


def scenes(count: int) -> list[Scene]:
    return [sample_scene(np.random.default_rng([7, index])) for index in range(count)]


def random_solid(shape: Literal["sphere", "cylinder", "cone"], seed: int) -> Solid:
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(3, 3)))[0] * random.uniform(0.2, 0.6, 3)
    return Solid(shape, random.uniform(-0.2, 0.2, 3), axes)


def inside(solid: Solid, points: np.ndarray) -> np.ndarray:
    x, y, z = solid.to_local(points).T
    radius = np.hypot(x, z)
    if solid.shape == "sphere":
        return x**2 + y**2 + z**2 < 1
    return (np.abs(y) < 1) & (radius < (1 if solid.shape == "cylinder" else (1 - y) / 2))


@pytest.mark.parametrize("shape", ["sphere", "cylinder", "cone"])
@pytest.mark.parametrize("seed", range(4))
def test_hits_against_fine_steps_along_the_ray(shape, seed):
    solid = random_solid(shape, seed)
    random = np.random.default_rng(seed + 100)
    origin = 2 * random.normal(size=3) / 1.5 + [0, 0, 3]
    directions = random.uniform(-0.5, 0.5, (200, 3)) - origin
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    steps = np.linspace(0, 8, 8001)
    points = origin + steps[:, None, None] * directions
    filled = inside(solid, points.reshape(-1, 3)).reshape(len(steps), -1)
    expected = np.where(filled.any(axis=0), steps[filled.argmax(axis=0)], np.inf)
    found = trace([solid], origin, directions).distance
    both = np.isfinite(expected) & np.isfinite(found)
    assert both.sum() > 20
    assert np.abs(found[both] - expected[both]).max() < 1.1e-3
    # The steps may miss a chord shorter than themselves; the closed form must miss nothing that they find.
    assert np.isfinite(found)[np.isfinite(expected)].all()
    assert (np.isfinite(found) & ~np.isfinite(expected)).mean() < 0.02


@pytest.mark.parametrize("shape", ["sphere", "cylinder", "cone"])
def test_normals_point_outwards(shape):
    solid = random_solid(shape, 5)
    origin = np.array([0.3, 0.4, 3.0])
    directions = np.random.default_rng(0).uniform(-0.4, 0.4, (300, 3)) - origin
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distance = trace([solid], origin, directions).distance
    hit = np.isfinite(distance)
    points = origin + distance[hit, None] * directions[hit]
    normals = solid.normals(points)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    assert not inside(solid, points + 1e-4 * normals).any()
    assert inside(solid, points - 1e-4 * normals).mean() > 0.97


def test_shadow_of_one_ball_on_another():
    low = Solid("sphere", np.zeros(3), np.eye(3))
    high = Solid("sphere", np.array([0, 3.0, 0]), 0.5 * np.eye(3))
    points = np.array([[0, 1.001, 0], [0.6, 1.0, 0.6], [0.4, 1.0, 0]])
    assert shadowed([low, high], points, np.array([0, 1.0, 0])).tolist() == [True, False, True]


def test_nearest_of_two_solids_wins():
    near = Solid("sphere", np.array([0, 0, 1.0]), 0.5 * np.eye(3))
    far = Solid("sphere", np.zeros(3), 0.5 * np.eye(3))
    hits = trace([far, near], np.array([0, 0, 4.0]), np.array([[0, 0, -1.0]]))
    assert hits.solid.tolist() == [1]
    assert hits.distance[0] == pytest.approx(2.5)


@pytest.mark.parametrize("index", range(6))
def test_depth_of_one_view_lands_on_the_surface_seen_by_another(index):
    scene = scenes(6)[index]
    first, second = orbit_label(-0.3, 0.1), orbit_label(0.25, -0.1)
    render = Renderer(scene)
    source, target = render(first, 96), render(second, 96)
    seen = np.isfinite(source.depth)
    points = cameras.unproject(first, source.depth)[seen]

    # A ray towards a point of the surface meets that point, or something in front of it: never nothing, nothing behind.
    origin = cameras.split_label(second)[0][:3, 3]
    distance = np.linalg.norm(points - origin, axis=1)
    solids = [part.solid for part in build(scene.critter)]
    hit = trace(solids, origin, (points - origin) / distance[:, None]).distance
    assert (hit < distance + 1e-9).all()
    visible = hit > distance - 1e-9
    assert visible.mean() > 0.6

    # Through pictures alone: where the second view sees the point, its depth map agrees to a pixel's slope.
    image, _ = cameras.project(second, points[visible])
    columns, rows = (np.floor(image * 96).astype(int)).T
    at_pixel = target.depth[rows, columns]
    error = np.abs(at_pixel - distance[visible])
    assert np.median(error) < 0.004
    assert (error < 0.03).mean() > 0.9


def test_mask_is_the_share_of_hitting_rays():
    scene = scenes(1)[0]
    render, label = Renderer(scene), orbit_label(0.4, 0.2)
    fine = render(label, 32 * 5, supersampling=1)
    coarse = render(label, 32, supersampling=5)
    expected = np.isfinite(fine.depth).reshape(32, 5, 32, 5).mean(axis=(1, 3))
    assert np.allclose(coarse.mask, expected)
    assert np.array_equal(np.isfinite(coarse.depth), np.isfinite(fine.depth)[2::5, 2::5])
    assert np.allclose(coarse.foreground, fine.foreground.reshape(32, 5, 32, 5, 3).mean(axis=(1, 3)))
    assert 0.2 < coarse.mask.mean() < 0.7


def test_picture_is_its_foreground_over_its_background():
    picture = Renderer(scenes(2)[1])(orbit_label(0, 0), 48)
    assert np.allclose(picture.image, picture.foreground + (1 - picture.mask[..., None]) * picture.background)
    rgba = picture.rgba().astype(np.float64) / 255
    again = rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:]) * picture.background
    assert np.abs(again - picture.image).max() < 2 / 255
    assert picture.normals[np.isfinite(picture.depth)].any(axis=1).all()
    assert not picture.normals[~np.isfinite(picture.depth)].any()
    towards = cameras.pixel_rays(orbit_label(0, 0), 48)[1]
    assert (np.einsum("ijk,ijk->ij", picture.normals, towards) < 1e-6).all()


def test_background_shows_rotation_only():
    """Surroundings at infinity: moving the camera without turning it changes nothing behind the object."""
    render = Renderer(scenes(1)[0])
    label = orbit_label(0.2, 0.1)
    moved = label.copy()
    moved[3], moved[7] = 0.4, -0.2
    assert np.allclose(render(label, 16).background, render(moved, 16).background)


@pytest.mark.parametrize("place", PLACES)
def test_surroundings_are_colourful_and_close_around(place):
    view = View(Surroundings(place, 11))
    turn = np.linspace(-0.3, 0.3, 200)
    band = np.stack([np.sin(turn), 0.1 + 0 * turn, -np.cos(turn)], axis=1)
    band /= np.linalg.norm(band, axis=1, keepdims=True)
    colors = view(band)
    assert colors.min() >= 0
    assert colors.max() <= 1
    assert np.abs(np.diff(colors, axis=0)).max() < 0.25
    sphere = np.random.default_rng(0).normal(size=(500, 3))
    assert view(sphere / np.linalg.norm(sphere, axis=1, keepdims=True)).std() > 0.04


def test_objects_fit_the_ball_and_every_view():
    for scene in scenes(30):
        for part in build(scene.critter):
            height, turn = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(0, 6.28, 12))
            ring = {"sphere": np.sqrt(1 - height**2), "cylinder": 1 + 0 * height, "cone": (1 - height) / 2}
            radius = ring[part.solid.shape]
            local = np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], axis=-1).reshape(-1, 3)
            assert np.linalg.norm(local @ part.solid.axes.T + part.solid.center, axis=1).max() <= SIZE
    mask = Renderer(scenes(1)[0])(orbit_label(1.0, 0.5), 64).mask
    assert not mask[[0, -1]].any()
    assert not mask[:, [0, -1]].any()


def test_every_kind_of_part_is_drawn():
    drawn = [scene.critter for scene in scenes(120)]
    for name, kinds in [("ears", EARS), ("face", FACES), ("coat", COATS), ("extra", EXTRAS)]:
        assert {getattr(critter, name) for critter in drawn} == set(kinds)


def test_front_differs_from_back():
    render = Renderer(scenes(3)[2])
    front, back = (render(orbit_label(azimuth, 0), 32).foreground for azimuth in (0, np.pi))
    assert np.abs(front - back).mean() > 0.02


def test_record_renders_the_same_picture():
    scene = scenes(1)[0]
    again = Scene.from_record(json.loads(json.dumps(scene.to_record())))
    assert again == scene
    label = orbit_label(0.1, 0.1)
    assert np.array_equal(Renderer(scene)(label, 24).image, Renderer(again)(label, 24).image)


def test_even_supersampling_is_refused():
    with pytest.raises(ValueError, match="supersampling=2: must be odd"):
        Renderer(scenes(1)[0])(orbit_label(0, 0), 8, supersampling=2)


@pytest.mark.parametrize("camera_range", RANGES)
def test_cameras_stay_in_their_range(camera_range):
    options = replace(OPTIONS, camera_range=camera_range)
    labels = np.array([draw(options, index)[1] for index in range(100)])
    positions = cameras.split_label(labels)[0][:, :3, 3]
    assert np.allclose(np.linalg.norm(positions, axis=1), cameras.EG3D_RADIUS)
    azimuth = np.arctan2(positions[:, 0], positions[:, 2])
    elevation = np.arcsin(positions[:, 1] / cameras.EG3D_RADIUS)
    sideways, (low, high) = RANGES[camera_range]
    assert sideways * 0.9 < np.abs(azimuth).max() <= sideways + 1e-6
    assert low - 1e-6 <= elevation.min() < elevation.max() <= high + 1e-6


def test_views_share_an_object():
    options = replace(OPTIONS, views=3)
    drawn = [draw(options, index) for index in range(6)]
    assert drawn[0][0] == drawn[2][0] != drawn[3][0]
    assert drawn[0][1] != drawn[1][1]


def test_set_trains_as_it_is_and_has_its_truth_beside_it(tmp_path):
    truth_path = make_set(tmp_path / "set.zip", OPTIONS, 4, workers=1)
    assert truth_path == tmp_path / "set-truth.zip"
    data = ImageDataset(DataConfig(path=str(tmp_path / "set.zip")))
    assert (len(data), data.resolution) == (4, 32)
    with zipfile.ZipFile(truth_path) as truth:
        parameters = json.loads(truth.read("parameters.json"))
        for index in range(4):
            scene = Scene.from_record(parameters["scenes"][index][1])
            picture = Renderer(scene)(parameters["labels"][index][1], 32)
            assert np.array_equal(data[index][0].permute(1, 2, 0).numpy(), to_bytes(picture.image))
            assert np.allclose(data.labels[index].numpy(), parameters["labels"][index][1])
            stem = numbered_names(4)[index].removesuffix(".png")
            mask = np.array(Image.open(io.BytesIO(truth.read(f"{stem}_mask.png"))))
            assert np.array_equal(mask, to_bytes(picture.mask))
            rgba = np.array(Image.open(io.BytesIO(truth.read(f"{stem}_foreground.png"))))
            assert np.array_equal(rgba, picture.rgba())
            depth = np.load(io.BytesIO(truth.read(f"{stem}_depth.npy")))
            assert np.allclose(depth, picture.depth)


def test_same_bytes_whatever_the_workers_and_interruptions(tmp_path, monkeypatch):
    make_set(tmp_path / "a.zip", OPTIONS, 5, workers=1)
    make_set(tmp_path / "b.zip", OPTIONS, 5, workers=2)

    class StoppedError(Exception):
        pass

    def fail_at(index, options):
        if index == 3:
            raise StoppedError
        return original(index, options)

    from dataset_preprocessing.synthetic import make

    original = make.render_picture
    with monkeypatch.context() as patch:
        patch.setattr(make, "render_picture", fail_at)
        with pytest.raises(StoppedError):
            make_set(tmp_path / "c.zip", OPTIONS, 5, workers=1)
    assert not (tmp_path / "c.zip").exists()
    rendered = []

    def recording(index, options):
        rendered.append(index)
        return original(index, options)

    monkeypatch.setattr(make, "render_picture", recording)
    make_set(tmp_path / "c.zip", OPTIONS, 5, workers=1)
    assert rendered == [3, 4]
    for suffix in (".zip", "-truth.zip"):
        contents = {(tmp_path / f"{name}{suffix}").read_bytes() for name in "abc"}
        assert len(contents) == 1
    assert not list(tmp_path.glob(".*"))
