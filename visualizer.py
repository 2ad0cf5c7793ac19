"""A viewer of snapshots in the browser; works over SSH and without a GPU."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import torch
import viser
import viser.transforms as tf

from training import media, shapes
from training.cameras.prior import orbit_position
from training.commands import pick_device
from training.film import write_film
from training.types import Camera
from training.unpickle import SnapshotError
from training.viewing import (
    SceneChoice,
    ViewChoice,
    Viewer,
    activation_layers,
    fit_window,
    recent_snapshots,
    viewer_camera,
)
from training.views import LAYERS, BuiltScene, ShapeSettings, scene_density, scene_mesh

STILL_SECONDS = 0.25
"""A camera that has not moved for this long gets the full picture."""
FILM_STEPS = 24
NONE = "(none)"


class Panel:
    """The controls of one browser window, and the choices that they stand for."""

    def __init__(self, client: viser.ClientHandle, snapshots: list[str], viewer: Viewer):
        gui, self.client, self.viewer = client.gui, client, viewer
        tabs = gui.add_tab_group()
        with tabs.add_tab("Scene"):
            self.network = gui.add_dropdown("Snapshot", snapshots or [NONE])
            self.path = gui.add_text("File or address", "")
            self.upload = gui.add_upload_button("Load a file", mime_type=".pkl")
            self.beside = gui.add_dropdown("Beside it", [NONE, *snapshots])
            self.seed = gui.add_number("Seed", 0.0, min=0.0, step=0.1)
            self.background_seed = gui.add_number("Background seed", 0.0, min=0.0, step=0.1)
            self.together = gui.add_checkbox("Background follows seed", True)
            self.truncation = gui.add_slider("Truncation", 0.0, 1.5, 0.05, 1.0)
            self.background_truncation = gui.add_slider("Background truncation", 0.0, 1.5, 0.05, 1.0)
            self.walk = gui.add_checkbox("Walk through seeds", False)
            self.speed = gui.add_slider("Seeds a second", 0.05, 2.0, 0.05, 0.3)
        with tabs.add_tab("View"):
            self.layer = gui.add_dropdown("Layer", tuple(LAYERS))
            self.rays = gui.add_slider("Rays per side (0: network's)", 0, 256, 16, 0)
            self.samples = gui.add_slider("Samples", 0.25, 4.0, 0.25, 1.0)
            self.fov = gui.add_slider("Field of view", 5.0, 90.0, 0.1, 18.8)
            self.front = gui.add_button("Front")
        with tabs.add_tab("Styles"):
            self.mixing = gui.add_checkbox("Mix styles", False)
            self.mix_seed = gui.add_number("Seed mixed in", 1, min=0, step=1)
            self.mix_row = gui.add_slider("From style row", 0, 13, 1, 7)
            self.yaw = gui.add_slider("Conditioning yaw", -1.5, 1.5, 0.05, 0.0)
            self.pitch = gui.add_slider("Conditioning pitch", -0.7, 0.7, 0.05, 0.0)
            self.activation = gui.add_dropdown("Activations", [NONE])
            self.activation_image = gui.add_image(np.zeros([4, 4, 3], np.uint8), visible=False)
        with tabs.add_tab("Save"):
            self.save_picture = gui.add_button("Picture")
            self.save_mesh = gui.add_button("Mesh")
            self.mesh_resolution = gui.add_slider("Mesh grid", 32, 512, 32, 128)
            self.add_key = gui.add_button("Add camera to the path")
            self.clear_keys = gui.add_button("Clear the path")
            self.save_film = gui.add_button("Film along the path")
        self.status = gui.add_markdown("")

    def scene_choice(self) -> SceneChoice | None:
        """The chosen scene; None where no snapshot is chosen."""
        network = self.path.value.strip() or self.network.value
        if network == NONE:
            return None
        background_seed = self.seed.value if self.together.value else self.background_seed.value
        return SceneChoice(
            network,
            float(self.seed.value),
            float(background_seed),
            self.truncation.value,
            self.background_truncation.value,
            int(self.mix_seed.value) if self.mixing.value else None,
            int(self.mix_row.value),
            self.yaw.value,
            self.pitch.value,
        )

    def scenes(self) -> list[BuiltScene]:
        """The scenes that stand beside each other."""
        choice = self.scene_choice()
        if choice is None:
            return []
        networks = [choice.network] + ([self.beside.value] if self.beside.value != NONE else [])
        return [self.viewer.scene(replace(choice, network=network)) for network in networks]

    def view_choice(self, moving: bool) -> ViewChoice:
        """How to show it; fewer rays and samples while the camera moves."""
        rays = int(self.rays.value) or None
        if not moving:
            return ViewChoice(self.layer.value, rays, self.samples.value)
        return ViewChoice(self.layer.value, rays, self.samples.value / 2, coarseness=2)


class Session:
    """One browser window: waits for changes, draws, and serves its buttons."""

    def __init__(self, client: viser.ClientHandle, viewer: Viewer, snapshots: list[str]):
        self.client, self.viewer = client, viewer
        self.panel = Panel(client, snapshots, viewer)
        self.path: list[tuple[np.ndarray, np.ndarray]] = []
        self.changed = threading.Event()
        self.closed = False
        self.moved_at = self.walked_at = time.monotonic()
        self.sharp = False
        self._connect()

    def _connect(self) -> None:
        panel = self.panel
        drawn_again = (
            *(panel.network, panel.path, panel.beside, panel.seed, panel.background_seed, panel.together),
            *(panel.truncation, panel.background_truncation, panel.walk, panel.layer, panel.rays, panel.samples),
            *(panel.mixing, panel.mix_seed, panel.mix_row, panel.yaw, panel.pitch, panel.activation),
        )
        for control in drawn_again:
            control.on_update(lambda _: self.redraw())
        self.client.camera.on_update(lambda _: self.redraw(moved=True))
        panel.fov.on_update(lambda _: self._set_fov())
        panel.upload.on_upload(lambda _: self._uploaded())
        panel.front.on_click(lambda _: self.look_from_front())
        panel.save_picture.on_click(lambda _: self._save_picture())
        panel.save_mesh.on_click(lambda _: self._save_mesh())
        panel.add_key.on_click(lambda _: self._add_key())
        panel.clear_keys.on_click(lambda _: self.path.clear())
        panel.save_film.on_click(lambda _: self._save_film())

    def redraw(self, moved: bool = False) -> None:
        """Asks for another picture."""
        if moved:
            self.moved_at = time.monotonic()
        self.sharp = False
        self.changed.set()

    def run(self) -> None:
        """Draws until the window is closed."""
        self.look_from_front()
        while not self.closed:
            self.changed.wait(timeout=STILL_SECONDS)
            self.changed.clear()
            if self.panel.walk.value:
                now = time.monotonic()
                self.panel.seed.value = round(
                    self.panel.seed.value + self.panel.speed.value * (now - self.walked_at), 3
                )
            self.walked_at = time.monotonic()
            if not self.sharp or self.panel.walk.value:
                self._draw()

    def _draw(self) -> None:
        moving = self.panel.walk.value or time.monotonic() - self.moved_at < STILL_SECONDS
        try:
            with self.viewer.lock:
                start = time.monotonic()
                picture = self._picture(moving)
                seconds = time.monotonic() - start
                self._show_activations()
        except (OSError, ValueError, RuntimeError) as error:
            # Among them broken snapshots and a device that is out of memory: the window stays open.
            self.panel.status.content = f"**{error}**"
            self.sharp = True
            return
        if picture is None:
            self.panel.status.content = "Choose a snapshot."
        else:
            aspect = self.client.camera.aspect
            self.client.scene.set_background_image(fit_window(picture, aspect), format="jpeg", jpeg_quality=92)
            quality = "moving" if moving else "full"
            self.panel.status.content = (
                f"{1 / max(seconds, 1e-6):.1f} pictures a second ({quality}), scenes built: {self.viewer.scenes_built}"
            )
        self.sharp = not moving

    def camera(self) -> Camera:
        """The camera of the window."""
        camera = self.client.camera
        rotation = tf.SO3(camera.wxyz).as_matrix()
        return viewer_camera(camera.position, rotation, camera.fov, camera.aspect)

    def _picture(self, moving: bool) -> np.ndarray | None:
        scenes = self.panel.scenes()
        if not scenes:
            return None
        view, camera = self.panel.view_choice(moving), self.camera()
        pictures = [self.viewer.picture(scene, camera, view) for scene in scenes]
        side = max(len(picture) for picture in pictures)
        return media.tile(np.concatenate([media.resize(picture[None], side) for picture in pictures]), len(pictures))

    def _show_activations(self) -> None:
        panel, choice = self.panel, self.panel.scene_choice()
        if choice is None:
            return
        names = (NONE, *activation_layers(self.viewer.generator(choice.network)))
        if panel.activation.options != names:
            panel.activation.options = names
        panel.activation_image.visible = panel.activation.value != NONE
        if panel.activation.value != NONE:
            panel.activation_image.image = self.viewer.activations(choice, panel.activation.value)

    def look_from_front(self) -> None:
        """Puts the window's camera where the network's frontal camera stands."""
        choice = self.panel.scene_choice()
        if choice is None:
            return
        try:
            with self.viewer.lock:
                view = self.viewer.generator(choice.network).config.view
        except (OSError, SnapshotError):
            return
        front = torch.tensor([np.pi / 2], dtype=torch.float32)
        self.client.camera.up_direction = (0.0, 1.0, 0.0)
        self.client.camera.position = orbit_position(front, front, view.radius)[0].numpy()
        self.client.camera.look_at = np.array(view.pivot)
        # The published field of view is that of the diagonal; the window's is that of its height.
        self.panel.fov.value = round(float(np.degrees(2 * np.arctan(np.tan(np.radians(view.fov_deg) / 2) / 2**0.5))), 1)
        self._set_fov()

    def _set_fov(self) -> None:
        self.client.camera.fov = float(np.radians(self.panel.fov.value))
        self.redraw()

    def _uploaded(self) -> None:
        file = self.panel.upload.value
        folder = Path(tempfile.mkdtemp(prefix="viewer-"))
        path = folder / Path(file.name).name
        path.write_bytes(file.content)
        self.panel.path.value = str(path)
        self.redraw()

    def _save_picture(self) -> None:
        with self.viewer.lock:
            picture = self._picture(moving=False)
        if picture is not None:
            self.client.send_file_download("view.png", media.png_bytes(picture))

    def _save_mesh(self) -> None:
        with self.viewer.lock, tempfile.TemporaryDirectory() as folder:
            for scene in self.panel.scenes()[:1]:
                settings = ShapeSettings(int(self.panel.mesh_resolution.value))
                try:
                    mesh = scene_mesh(scene, scene_density(scene, settings), settings)
                except ValueError as error:
                    self.panel.status.content = f"**{error}**"
                    return
                path = shapes.save_mesh(Path(folder) / "shape.glb", mesh)
                self.client.send_file_download("shape.glb", path.read_bytes())

    def _add_key(self) -> None:
        camera = self.client.camera
        self.path.append((np.array(camera.position), np.array(camera.look_at)))
        self.panel.status.content = f"{len(self.path)} cameras in the path"

    def _save_film(self) -> None:
        if len(self.path) < 2:
            self.panel.status.content = "**A film needs at least two cameras in its path.**"
            return
        frames = []
        camera = self.client.camera
        aspect, fov = camera.aspect, camera.fov
        with self.viewer.lock, tempfile.TemporaryDirectory() as folder:
            scenes, view = self.panel.scenes()[:1], self.panel.view_choice(moving=False)
            for position, target in path_between(self.path, FILM_STEPS):
                pose = viewer_camera(position, looking(position, target), fov, aspect)
                frames += [self.viewer.picture(scene, pose, view) for scene in scenes]
            film = write_film(Path(folder) / "path.mp4", frames, fps=24)
            self.client.send_file_download("path.mp4", film.read_bytes())


def path_between(keys: list[tuple[np.ndarray, np.ndarray]], steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions and targets on straight lines through the keys, `steps` from one to the next."""
    points = []
    for (position, target), (next_position, next_target) in pairwise(keys):
        for share in np.linspace(0, 1, steps, endpoint=False):
            points.append((position + share * (next_position - position), target + share * (next_target - target)))
    return [*points, keys[-1]]


def looking(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, camera to world in OpenCV axes, of an upright camera that looks at a target."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward], axis=1)


@click.command(context_settings={"show_default": True})
@click.option("--network", "networks", metavar="PKL|URL|RUN", multiple=True, help="Snapshot to offer; may be repeated.")
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default="training-runs",
    help="Folder of runs whose newest snapshots are offered.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen at; only this machine unless told otherwise.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, help="Port to listen at.")
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", help="Where to compute.")
def main(networks: tuple[str, ...], runs: Path, host: str, port: int, device: str) -> None:
    """Shows snapshots in the browser.

    Over SSH, forward the port and open the address on your own machine: ssh -L 8080:localhost:8080 SERVER
    """
    snapshots = [*networks, *recent_snapshots(runs)]
    viewer = Viewer(pick_device(device))
    for network in networks:
        try:
            viewer.generator(network)
        except (OSError, SnapshotError) as error:
            raise click.ClickException(f"--network={network}: {error}") from error
    server = viser.ViserServer(host=host, port=port, verbose=False)
    server.scene.set_up_direction("+y")
    server.gui.configure_theme(dark_mode=True, show_logo=False)
    server.gui.main_panel.dock_right()

    @server.on_client_connect
    def _(client: viser.ClientHandle) -> None:
        session = Session(client, viewer, snapshots)
        sessions[client.client_id] = session
        threading.Thread(target=session.run, daemon=True).start()

    @server.on_client_disconnect
    def _(client: viser.ClientHandle) -> None:
        session = sessions.pop(client.client_id, None)
        if session is not None:
            session.closed = True

    sessions: dict[int, Session] = {}
    click.echo(f"Open http://{host}:{server.get_port()} (Ctrl-C ends)")
    try:
        server.sleep_forever()
    except KeyboardInterrupt:
        click.echo()


if __name__ == "__main__":
    main()
