"""Rendered meshes: geometry against closed forms and between views, light, model files, whole sets."""

from __future__ import annotations

import base64
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dataset_preprocessing import cameras
from dataset_preprocessing.building import numbered_names
from dataset_preprocessing.checking import full_check
from dataset_preprocessing.meshes import make
from dataset_preprocessing.meshes.__main__ import main
from dataset_preprocessing.meshes.ac3d import read_ac3d
from dataset_preprocessing.meshes.fetch import fetch_panoramas
from dataset_preprocessing.meshes.make import ModelFile, Options, find_models, find_panoramas, make_set, object_radius
from dataset_preprocessing.meshes.mesh import Mesh, join, load_mesh
from dataset_preprocessing.meshes.panorama import Panorama, light_of, mended, read_panorama, studio, turned
from dataset_preprocessing.meshes.render import MeshTracer, display, render
from dataset_preprocessing.meshes.torcs import find_cars, load_car, read_wheels
from dataset_preprocessing.meshes.traced import PathTracer
from tests.unit.test_dataset import picture, png
from training.archive import ArchiveError
from training.dataset import DataConfig, ImageDataset

pytest.importorskip("embreex")
trimesh = pytest.importorskip("trimesh")

BALL = """AC3Db
MATERIAL "red" rgb 1 0 0 amb 0 0 0 emis 0 0 0 spec 0 0 0 shi 1 trans 0
OBJECT world
kids 2
OBJECT group
loc 0 1 0
kids 1
OBJECT poly
name "quad"
texture "skin.png"
numvert 4
0 0 0
1 0 0
1 1 0
0 1 0
numsurf 1
SURF 0x00
mat 0
refs 4
0 0 0
1 1 0
2 1 1
3 0 1
kids 0
OBJECT poly
name "strip"
numvert 4
0 0 1 0 0 1
1 0 1 0 0 1
0 1 1 0 0 1
1 1 1 0 0 1
numsurf 1
SURF 0x14
mat 0
refs 4
0 0 0
1 0 0
2 0 0
3 0 0
kids 0
"""

CAR_XML = """<?xml version="1.0"?><!DOCTYPE params SYSTEM "params.dtd" [<!ENTITY x SYSTEM "x.xml">]>
<params name="c" type="template">
&x;
<section name="Graphic Objects"><attstr name="3d wheel directory" val="../stock"/></section>
<section name="Front Axle"><attnum name="xpos" val="1.4"/></section>
<section name="Rear Axle"><attnum name="xpos" val="-1.2"/></section>
<section name="Front Right Wheel"><attnum name="ypos" val="-0.7"/><attnum name="rim diameter" val="20"/>
<attnum name="tire width" val="200"/><attnum name="tire height-width ratio" val="0.5"/></section>
</params>"""


def uv_sphere(radius: float = 1.0, steps: int = 48) -> Mesh:
    ball = trimesh.creation.uv_sphere(radius, count=[steps, steps])
    corners = np.asarray(ball.vertices)[ball.faces]
    count = len(corners)
    return Mesh(corners, corners / radius, np.zeros((count, 3, 2)), np.full(count, -1), np.full((count, 3), 0.5))


def bumpy(seed: int = 0) -> Mesh:
    random = np.random.default_rng(seed)
    parts = [uv_sphere(random.uniform(0.2, 0.6), 16).moved(np.eye(3), random.uniform(-0.6, 0.6, 3)) for _ in range(6)]
    return join(parts).fitted(0.45)


def label_at(azimuth: float, elevation: float, focal: float = 1.7, radius: float = 1.7) -> np.ndarray:
    pose = cameras.look_at(cameras.orbit_position(azimuth, elevation, radius))
    return cameras.make_label(pose, cameras.intrinsics(focal))


def sky(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1.0, (16, 32, 3))


def test_depth_of_a_plane_is_exact():
    corners = np.array([[[-5, -5, 0.2], [5, -5, 0.2], [0, 9, 0.2]]], dtype=float)
    plane = Mesh(corners, np.tile([0, 0, 1.0], (1, 3, 1)), np.zeros((1, 3, 2)), np.array([-1]), np.ones((1, 3)))
    label = label_at(0.3, 0.2)
    view = render(MeshTracer(plane), None, 0.0, label, 32)
    points = cameras.unproject(label, view.depth)
    assert np.abs(points[..., 2] - 0.2).max() < 1e-12
    assert (view.mask == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_depth_and_mask_agree_between_views_within_a_pixel(seed):
    tracer = MeshTracer(bumpy(seed))
    first, second = label_at(-0.3, 0.1), label_at(0.2, 0.2)
    source, target = render(tracer, None, 0, first, 128), render(tracer, None, 0, second, 128)
    points = cameras.unproject(first, source.depth)[np.isfinite(source.depth)]
    origin = cameras.split_label(second)[0][:3, 3]
    distance = np.linalg.norm(points - origin, axis=1)
    hit, _ = tracer.trace(origin, (points - origin) / distance[:, None])
    assert (hit < distance + 1e-5).all(), "a point of the surface is never in front of nothing"
    visible = hit > distance - 1e-5
    assert visible.mean() > 0.6
    # By pictures alone: the depth of a visible point lies among those of its pixel and the pixels around.
    image, _ = cameras.project(second, points[visible])
    columns, rows = np.floor(image * 128).astype(int).T
    near = np.stack(
        [
            target.depth[np.clip(rows + dy, 0, 127), np.clip(columns + dx, 0, 127)] - distance[visible]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
    )
    assert (near.min(axis=0) < 0.005).all()
    assert ((near.min(axis=0) < 0.005) & (near.max(axis=0) > -0.005)).mean() > 0.995
    assert (target.mask[rows, columns] > 0).mean() > 0.99


def test_mask_equals_finite_depth_with_one_ray():
    view = render(MeshTracer(bumpy()), None, 0, label_at(0, 0), 64, supersampling=1)
    assert np.array_equal(view.mask == 1, np.isfinite(view.depth))
    assert np.allclose(view.image, view.foreground + (1 - view.mask[..., None]) * view.background)


def gradient() -> Panorama:
    return light_of(np.ones((32, 64, 3)) * np.linspace(0.2, 1.0, 32)[:, None, None])


@pytest.mark.parametrize("panorama", [gradient(), studio()], ids=["gradient", "studio"])
def test_irradiance_against_direct_summation(panorama):
    height, width, _ = panorama.radiance.shape
    elevation = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    azimuth = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    flat = np.cos(elevation)[:, None]
    directions = np.stack(
        [flat * np.sin(azimuth), np.repeat(np.sin(elevation)[:, None], width, 1), flat * np.cos(azimuth)], -1
    )
    angle = flat * np.pi / height * 2 * np.pi / width
    for normal in np.eye(3):
        cosine = np.clip(directions @ normal, 0, None)
        direct = (panorama.radiance * (cosine * angle)[..., None]).sum(axis=(0, 1)) / np.pi
        lamp = panorama.lamp * max(float(panorama.lamp_direction @ normal), 0.0)
        assert np.allclose(panorama.irradiance(normal[None])[0] + lamp, direct, rtol=0.05)


def test_lamp_is_where_the_bright_spot_is():
    radiance = np.full((64, 128, 3), 0.2)
    radiance[16, 96] = 500
    panorama = light_of(radiance)
    azimuth, elevation = (96.5 / 128 - 0.5) * 2 * np.pi, (0.5 - 16.5 / 64) * np.pi
    assert panorama.lamp_direction @ cameras.orbit_position(azimuth, elevation, 1.0) > 0.999


def test_dark_rooms_with_large_lights_and_suns_stay_within_bounds():
    radiance = np.full((64, 128, 3), 0.01)
    radiance[10:20, 20:60] = 50
    room = light_of(radiance)
    assert 0.282095 * room.harmonics[0] == pytest.approx(1.5, rel=1e-4)
    assert room.radiance[15, 40, 0] > 100 * room.radiance[40, 40, 0]
    radiance[16, 96] = 1e5
    sun = light_of(radiance)
    assert sun.lamp == pytest.approx(np.minimum(sun.lamp, 4))


def test_marks_of_lossy_compression_are_mended():
    smooth = np.linspace(0.2, 1, 16)[:, None, None] * np.ones((16, 32, 3))
    spoilt = smooth.copy()
    spoilt[8, 10], spoilt[8, 11], spoilt[0, 0] = [0, 0, np.inf], [-1.5, 0.3, 0.2], [0.2, -2, np.nan]
    spoilt[4, 4] = np.inf
    repaired = mended(spoilt)
    assert (repaired[4, 4] > 1000).all(), "a white lamp is no mark"
    repaired[4, 4] = smooth[4, 4]
    assert np.abs(repaired - smooth).max() < 0.12
    spoilt[4, 4] = smooth[4, 4]
    untouched = (spoilt == smooth).all(axis=2)
    assert untouched.sum() == 16 * 32 - 3
    assert np.array_equal(repaired[untouched], smooth[untouched])


def test_sound_panoramas_are_read_as_they_are(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    pixels = np.linspace(0.2, 1, 16, dtype=np.float32)[:, None, None] * np.ones((16, 32, 3), np.float32)
    assert np.array_equal(mended(pixels.astype(np.float64)), pixels)
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    exr.File(header, {"RGB": pixels}).write(str(tmp_path / "sky.exr"))
    exr.File(header, {"RGBA": np.pad(pixels, ((0, 0), (0, 0), (0, 1)))}).write(str(tmp_path / "alpha.exr"))
    for name in ("sky.exr", "alpha.exr"):
        assert np.array_equal(read_panorama(tmp_path / name).radiance, light_of(pixels.astype(np.float64)).radiance)


def test_panorama_closes_around_and_turns_with_its_light():
    panorama = light_of(sky())
    directions = np.random.default_rng(1).normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert np.allclose(panorama.look(turned(directions, 0.7), turn=0.7), panorama.look(directions))
    assert np.allclose(panorama.irradiance(turned(directions, 0.7), turn=0.7), panorama.irradiance(directions))
    back = np.array([[1e-9, 0.1, -1.0], [-1e-9, 0.1, -1.0]])
    assert np.allclose(*panorama.look(back / np.linalg.norm(back, axis=1, keepdims=True)))
    front = panorama.look(np.array([[0, 0, 1.0]]))
    assert np.abs(front - panorama.radiance[7:9, 15:17].mean(axis=(0, 1))).max() < 0.3


@pytest.mark.parametrize("traced", [False, True])
def test_texture_is_upright_and_unmirrored(traced):
    """A square facing the camera shows its texture as the file does."""
    if traced:
        pytest.importorskip("mitsuba")
    corners = np.array([[[-1, -1, 0], [1, -1, 0], [1, 1, 0]], [[-1, -1, 0], [1, 1, 0], [-1, 1, 0]]], dtype=float)
    uv = (corners[..., :2] + 1) / 2
    texture = np.full((8, 8, 4), 255, np.uint8)
    texture[:4, :4, :3], texture[:4, 4:, :3] = [255, 0, 0], [0, 255, 0]
    texture[4:, :4, :3], texture[4:, 4:, :3] = [0, 0, 255], [90, 90, 90]
    square = Mesh(corners, np.tile([0, 0, 1.0], (2, 3, 1)), uv, np.zeros(2, int), np.ones((2, 3)), (texture,))
    paths = PathTracer(square, 16) if traced else None
    image = render(MeshTracer(square), None, 0, label_at(0, 0, focal=0.5 * 1.7), 16, 3, paths).image
    assert image[4, 4].argmax() == 0
    assert image[4, 12].argmax() == 1
    assert image[12, 4].argmax() == 2
    assert np.ptp(image[12, 12]) < 0.1


@pytest.mark.parametrize("turn", [0.0, 2.0])
def test_traced_light_agrees_with_the_fast_one_where_that_is_exact(turn):
    """A matt ball shadows nothing of itself: both lights are those of the panorama, whatever its turn and the view."""
    pytest.importorskip("mitsuba")
    height, azimuth = np.linspace(1, -1, 32)[:, None], np.linspace(-np.pi, np.pi, 64)[None]
    colors = [
        1 + 0.8 * np.sin(azimuth) + 0 * height,
        1 + 0.8 * height + 0 * azimuth,
        1 + 0.8 * np.cos(azimuth) + 0 * height,
    ]
    panorama = light_of(np.stack(colors, axis=-1))
    ball = uv_sphere().fitted(0.45)
    for azimuth_of_view in (0.3, 2.5):
        label = label_at(azimuth_of_view, 0.2)
        fast = render(MeshTracer(ball), panorama, turn, label, 48)
        traced = render(MeshTracer(ball), panorama, turn, label, 48, 3, PathTracer(ball, 64), seed=1)
        assert np.array_equal(traced.mask, fast.mask)
        assert np.array_equal(traced.depth, fast.depth)
        assert np.array_equal(traced.background, fast.background)
        difference = (traced.foreground - fast.foreground)[fast.mask > 0.5]
        assert np.abs(difference.mean(axis=0)).max() < 0.04
        assert np.quantile(np.abs(difference), 0.95) < 0.1


def test_traced_pictures_have_the_outline_of_the_mask_and_repeat():
    pytest.importorskip("mitsuba")
    mesh = bumpy()
    label, paths = label_at(0.4, 0.3, focal=2.0), PathTracer(bumpy(), 16)
    plain = render(MeshTracer(mesh), None, 0, label, 64)
    view = render(MeshTracer(mesh), None, 0, label, 64, 3, paths, seed=5)
    again = render(MeshTracer(mesh), None, 0, label, 64, 3, paths, seed=5)
    other = render(MeshTracer(mesh), None, 0, label, 64, 3, paths, seed=6)
    assert np.array_equal(view.image, again.image)
    assert not np.array_equal(view.image, other.image)
    inside = plain.mask == 1
    assert (view.foreground[inside] > 0.05).all(), "the traced surface covers the mask"
    assert (view.foreground <= view.mask[..., None] + 1e-9).all()
    assert np.corrcoef(plain.foreground[inside].ravel(), view.foreground[inside].ravel())[0, 1] > 0.8


def test_traced_materials():
    """Triangles without a texture keep their own colours; a texture is tinted by its triangles' colours."""
    pytest.importorskip("mitsuba")
    corners = np.array([[[-1, -1, 0], [1, -1, 0], [-1, 1, 0]], [[1, -1, 0], [1, 1, 0], [-1, 1, 0]]], dtype=float)
    normals = np.zeros((2, 3, 3))  # none given: those of the triangles
    white = (np.full((4, 4, 4), 255, np.uint8),)
    colors = np.array([[0.8, 0.05, 0.05], [0.05, 0.8, 0.05]])
    for texture, textures in ((-1, ()), (0, white)):
        square = Mesh(corners, normals, np.zeros((2, 3, 2)), np.full(2, texture), colors, textures)
        label = label_at(0, 0, focal=0.5 * 1.7)
        image = render(MeshTracer(square), None, 0, label, 16, 3, PathTracer(square, 16)).image
        assert image[12, 3].argmax() == 0
        assert image[3, 12].argmax() == 1
        assert min(image[12, 3, 0], image[3, 12, 1]) > 0.5


def test_traced_light_without_mitsuba(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    trimesh.creation.box().export(tmp_path / "box.glb")
    options = ["render", f"--models={tmp_path}", f"--dest={tmp_path / 'set.zip'}", "--count=1", "--light-samples=4"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1
    assert "--light-samples needs mitsuba: `pip install .[light]`" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["box.glb"]


def test_joined_meshes_keep_a_shared_texture_once():
    texture = np.zeros((2, 2, 4), np.uint8)
    corners = np.zeros((1, 3, 3))
    one = Mesh(corners, corners, np.zeros((1, 3, 2)), np.array([0]), np.ones((1, 3)), (texture,))
    bare = Mesh(corners, corners, np.zeros((1, 3, 2)), np.array([-1]), np.ones((1, 3)))
    other = Mesh(corners, corners, np.zeros((1, 3, 2)), np.array([0]), np.ones((1, 3)), (texture + 1,))
    whole = join([bare, one, other, one])
    assert len(whole.textures) == 2
    assert whole.texture.tolist() == [-1, 0, 1, 0]
    assert whole.textures[1] is other.textures[0]


def test_ac3d(tmp_path):
    (tmp_path / "ball.ac").write_text(BALL)
    (tmp_path / "skin.png").write_bytes(png(picture(0)))
    mesh = load_mesh(tmp_path / "ball.ac")
    assert len(mesh.corners) == 4
    assert mesh.corners[:2, :, 1].min() == 1, "the group's place is added"
    assert mesh.texture.tolist() == [0, 0, -1, -1]
    assert mesh.color[0].tolist() == [1, 0, 0]
    assert (mesh.normals[2:] == [0, 0, 1]).all()
    areas = np.cross(mesh.corners[:, 1] - mesh.corners[:, 0], mesh.corners[:, 2] - mesh.corners[:, 0])
    assert (areas[:, 2] > 0).all(), "strips keep their winding"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "not an AC3D file"),
        ("AC3Db\nOBJECT world\nkids 0\n", "holds no triangles"),
        (BALL.replace("3 0 1\nkids", "9 0 1\nkids"), "vertices that it does not have"),
        (BALL[: BALL.index("refs")], "broken AC3D file"),
        (BALL.replace("numvert 4", "numvert 99999999999"), "broken AC3D file"),
        (BALL.replace("loc 0 1 0", "loc 0 x 0"), "broken AC3D file"),
        ("AC3Db\n" + "OBJECT group\nkids 1\n" * 5000, "broken AC3D file"),
    ],
)
def test_broken_ac3d(tmp_path, text, message):
    (tmp_path / "model.ac").write_text(text)
    with pytest.raises(ArchiveError, match=message):
        read_ac3d(tmp_path / "model.ac")


def test_models_of_other_programs(tmp_path):
    box = trimesh.creation.box(extents=(1, 2, 3))
    box.visual.face_colors = [255, 0, 0, 255]
    for suffix in ("glb", "ply", "obj", "stl"):
        box.export(tmp_path / f"box.{suffix}")
        mesh = load_mesh(tmp_path / f"box.{suffix}").fitted(1.0)
        assert len(mesh.corners) == 12
        assert np.linalg.norm(mesh.corners.reshape(-1, 3), axis=1).max() == pytest.approx(1)
    (tmp_path / "bad.glb").write_bytes(b"glTF nonsense")
    with pytest.raises(ArchiveError, match=r"bad\.glb: not a readable model"):
        load_mesh(tmp_path / "bad.glb")


def torcs_folder(root: Path) -> Path:
    car = root / "cars" / "demo"
    car.mkdir(parents=True)
    (car / "demo.acc").write_text(BALL.replace("skin.png", "demo.png"))
    (car / "demo.png").write_bytes(png(np.full((8, 8, 3), 10, np.uint8)))
    (car / "demo.xml").write_text(CAR_XML)
    (root / "drivers" / "human" / "1").mkdir(parents=True)
    (root / "drivers" / "human" / "1" / "demo.rgb").write_bytes(png(np.full((8, 8, 3), 200, np.uint8)))
    wheel = root / "wheels" / "stock"
    wheel.mkdir(parents=True)
    (wheel / "wheel0.acc").write_text(BALL)
    return root


def test_torcs_cars(tmp_path):
    root = torcs_folder(tmp_path)
    pairs = find_cars(root)
    assert [livery is None for _, livery in pairs] == [True, False]
    wheels, kind = read_wheels(root / "cars" / "demo" / "demo.xml")
    assert kind == "stock"
    assert wheels[0].center == pytest.approx((1.4, -0.7, 0.354))
    assert wheels[0].radius == pytest.approx(0.254 + 0.1)
    plain, dressed = (load_car(*pair) for pair in pairs)
    assert len(plain.corners) == 4 * 5
    assert (plain.textures[0][0, 0, 0], dressed.textures[0][0, 0, 0]) == (10, 200)
    front_right = plain.corners[4:8].reshape(-1, 3)
    assert front_right[:, 2].max() > 1.4, "the front is on +z"
    assert front_right[:, 0].mean() < 0, "seen from the front, a car's right side is on the left"
    (root / "cars" / "demo" / "demo.xml").write_text("<params")
    with pytest.raises(ArchiveError, match="not a car description"):
        load_car(*pairs[0])


def test_panorama_files(tmp_path):
    data = png(np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8))
    (tmp_path / "sky.png").write_bytes(data)
    (tmp_path / "sky.exr.js").write_text(
        f"export default 'data:application/exr;base64,{base64.b64encode(data).decode()}'"
    )
    assert np.array_equal(read_panorama(tmp_path / "sky.png").radiance, read_panorama(tmp_path / "sky.exr.js").radiance)
    assert len(find_panoramas(tmp_path)) == 2
    for name, content, message in [
        ("square.png", png(picture(0)), "twice as wide as high"),
        ("broken.png", b"x", "not a readable panorama"),
        ("broken.exr", b"v/1\x01xx", "not a readable EXR|needs OpenEXR"),
        ("empty.exr.js", b"export", "holds no base64 data"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArchiveError, match=message):
            read_panorama(tmp_path / name)


def test_panoramas_of_the_package(tmp_path):
    with tarfile.open(tmp_path / "assets.tgz", "w:gz") as tar:
        for name in ("package/hdri/sky.exr.js", "package/../../evil.exr.js", "package/readme"):
            data = b"export default 'x;base64," + base64.b64encode(b"exr data") + b"'"
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert fetch_panoramas(tmp_path / "out", tmp_path / "assets.tgz") == 2
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"sky.exr", "evil.exr"}
    assert (tmp_path / "out" / "sky.exr").read_bytes() == b"exr data"


def test_objects_fill_the_view():
    for focal, radius in [(1.7074, 1.7), (4.2647, 2.7)]:
        tracer = MeshTracer(uv_sphere().fitted(object_radius(focal, radius)))
        mask = render(tracer, None, 0, label_at(0.4, 0.2, focal, radius), 64).mask
        assert not mask[[0, -1]].any()
        assert mask[:, [3, -4]].any()


@pytest.mark.parametrize("light_samples", [0, 4])
def test_whole_set(tmp_path, light_samples):
    if light_samples:
        pytest.importorskip("mitsuba")
    trimesh.creation.icosphere(subdivisions=2).export(tmp_path / "ball.ply")
    trimesh.creation.box(extents=(1, 1.5, 2)).export(tmp_path / "box.glb")
    (tmp_path / "sky.png").write_bytes(png((255 * sky()).astype(np.uint8)))
    models, panoramas = find_models(tmp_path), (tmp_path / "sky.png",)
    assert [model.path.name for model in models] == ["ball.ply", "box.glb"]
    options = Options(models, panoramas, 32, 1, 2, 1.7074, 1.7, (-np.pi, np.pi), (0.0, 0.5), 3, light_samples)
    truth = make_set(tmp_path / "set.zip", options, 24, workers=1)
    make_set(tmp_path / "again.zip", options, 24, workers=1)
    assert (tmp_path / "set.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    assert full_check(str(tmp_path / "set.zip")).findings == []
    assert len(ImageDataset(DataConfig(path=str(tmp_path / "set.zip")))) == 24
    with zipfile.ZipFile(truth) as file:
        records = json.loads(file.read("parameters.json"))["scenes"]
        assert {Path(record["model"]).name for _, record in records} == {"ball.ply", "box.glb"}
        assert records[0][1] == records[1][1], "views share a scene"
        depth = np.load(io.BytesIO(file.read(numbered_names(1)[0].replace(".png", "_depth.npy"))))
    assert np.isfinite(depth[16, 16])
    (tmp_path / "bad.glb").write_bytes(b"x")
    good, faults = make.usable_models(find_models(tmp_path))
    assert len(good) == 2
    assert "bad.glb" in faults[0]
    with pytest.raises(ArchiveError, match="no models inside"):
        find_models(tmp_path / "none")


def test_display_is_monotonic():
    values = display(np.linspace(0, 5, 50)[:, None])
    assert (np.diff(values[:, 0]) > 0).all()
    assert ModelFile(Path("a")) == ModelFile(Path("a"))
