"""One self-contained HTML page about a data set: findings, cameras in 3-D, histograms, pictures with projected axes."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from dataset_preprocessing.cameras import Floats, fov_from_focal, project, split_label
from dataset_preprocessing.conventions import focus
from dataset_preprocessing.findings import Report
from dataset_preprocessing.pictures import decode
from training.archive import ArchiveError, open_archive

_AXES = (("x", (220, 40, 40)), ("y", (30, 160, 60)), ("z", (40, 80, 220)))
_MAX_CAMERAS = 2000


def write_page(report: Report, pictures: int = 24, thumbnail: int = 128) -> str:
    """The page as text. It shows `pictures` evenly chosen pictures and at most 2,000 cameras."""
    labels = np.array(list(report.labels.values())) if report.labels else np.zeros((0, 25))
    parts = [f"<h1>{html.escape(str(report.path))}</h1>", _findings(report)]
    if len(labels):
        parts += ["<h2>Cameras</h2>", _camera_plot(labels), "<div class=row>", *_histograms(labels), "</div>"]
    parts += ["<h2>Pictures</h2>", _AXES_NOTE if len(labels) else "", _grid(report, pictures, thumbnail)]
    return _PAGE.replace("BODY", "\n".join(parts))


def _findings(report: Report) -> str:
    sizes = ", ".join(f"{n} of {w}&times;{h}" for (w, h), n in report.sizes.most_common(3))
    facts = f"<p>{len(report.images)} pictures ({sizes}), {len(report.labels)} camera labels</p>"
    if not report.findings:
        return facts + "<p class=good>Nothing is wrong with this set.</p>"
    rows = []
    for finding in sorted(report.findings, key=lambda f: f.severity):
        names = ", ".join(name.encode("utf-8", "backslashreplace").decode() for name in finding.files[:5])
        more = f" and {len(finding.files) - 5} more" if len(finding.files) > 5 else ""
        cells = [finding.severity, finding.message, names + more, finding.mend]
        rows.append(f"<tr class={finding.severity}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>")
    return f"{facts}<table><tr><th><th>what<th>where<th>mend</tr>{''.join(rows)}</table>"


def _camera_plot(labels: Floats) -> str:
    shown = labels[:: max(1, len(labels) // _MAX_CAMERAS)]
    poses, matrices = split_label(shown)
    data = {
        "poses": np.round(poses[:, :3], 4).reshape(len(shown), 12).tolist(),
        "focal": np.round(matrices[:, 0, 0], 4).tolist(),
        "focus": np.round(focus(poses), 4).tolist(),
    }
    return f"<canvas id=plot width=720 height=480></canvas><script>const cameras={json.dumps(data)};{_PLOT}</script>"


def _histograms(labels: Floats) -> list[str]:
    poses, matrices = split_label(labels)
    offset = poses[:, :3, 3] - focus(poses)
    distance = np.linalg.norm(offset, axis=1)
    azimuth = np.degrees(np.arctan2(offset[:, 0], offset[:, 2]))
    elevation = np.degrees(np.arcsin(np.clip(offset[:, 1] / np.maximum(distance, 1e-12), -1, 1)))
    fov = fov_from_focal(np.maximum(matrices[:, 0, 0], 1e-6))
    return [
        histogram_svg(values, title)
        for values, title in [
            (azimuth, "azimuth, degrees (0: on +z, towards +x)"),
            (elevation, "elevation, degrees"),
            (distance, "distance to the common point"),
            (fov, "horizontal field of view, degrees"),
        ]
    ]


def histogram_svg(values: Floats, title: str, bins: int = 40) -> str:
    """A bar chart of how often values occur, with their range and mean in its title."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6 * max(abs(low), abs(high), 1):
        low, high = low - 0.5, high + 0.5
    counts = np.histogram(values, bins, (low, high))[0]
    bars = "".join(
        f'<rect x="{10 + 7 * i}" y="{110 - 90 * c / counts.max():.1f}" width="6" height="{90 * c / counts.max():.1f}"/>'
        for i, c in enumerate(counts)
    )
    words = f"{html.escape(title)}: mean {values.mean():.4g}, deviation {values.std():.3g}"
    ends = f'<text x="10" y="125">{low:.4g}</text><text x="290" y="125" text-anchor="end">{high:.4g}</text>'
    return f'<figure><svg width="300" height="130">{bars}{ends}</svg><figcaption>{words}</figcaption></figure>'


def _grid(report: Report, count: int, size: int) -> str:
    if not report.images:
        return ""
    archive = open_archive(report.path)
    rows = np.unique(np.linspace(0, len(report.images) - 1, count).astype(int))
    tiles = []
    for name in (report.images[row] for row in rows):
        try:
            image = decode(archive.read(name), name).convert("RGB").resize((size, size))
        except ArchiveError:
            continue
        label = report.labels.get(name)
        if label is not None:
            draw_axes(image, label)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=88)
        source = base64.b64encode(stream.getvalue()).decode()
        title = html.escape(name.encode("utf-8", "backslashreplace").decode())
        tiles.append(f'<img title="{title}" src="data:image/jpeg;base64,{source}">')
    return f"<div class=row>{''.join(tiles)}</div>"


def draw_axes(image: Image.Image, label: Sequence[float], length: float = 0.25) -> None:
    """Draw the world's axes from the origin, as the label's camera sees them: x red, y green, z blue."""
    draw = ImageDraw.Draw(image)
    points = np.concatenate([np.zeros((1, 3)), length * np.eye(3)])
    places, depths = project(label, points)
    if (depths <= 0).any() or not np.isfinite(places).all():
        return
    pixels = np.clip(places, -2, 3) * image.size
    for axis, (name, color) in enumerate(_AXES):
        draw.line([*pixels[0], *pixels[axis + 1]], fill=color, width=max(1, image.width // 64))
        draw.text(tuple(pixels[axis + 1]), name, fill=color)


_AXES_NOTE = """<p>On each picture the world's axes, 0.25 units long, as its label sees them:
<b style="color:#dc2828">x</b> to the right of the object seen from the front,
<b style="color:#1ea03c">y</b> up, <b style="color:#2850dc">z</b> out of its front.
If they do not stick to the object from picture to picture, the labels are wrong.</p>"""

_PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>Data set</title><style>
body{font:15px system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse}td,th{border:1px solid #ccc;
padding:.3em .6em;text-align:left;vertical-align:top}
tr.error td:first-child{background:#f6c9c9}tr.warning td:first-child{background:#f8e8b8}.good{color:#18803a}
.row{display:flex;flex-wrap:wrap;gap:6px}figure{margin:0}figcaption{font-size:12px;max-width:300px}
svg rect{fill:#4a78c8}svg text{font-size:11px;fill:#555}canvas{border:1px solid #ccc;cursor:grab}
</style></head><body>BODY</body></html>"""

_PLOT = """
const canvas=document.getElementById('plot'),pen=canvas.getContext('2d');
let turn=0.6,tilt=0.35,zoom=1,held=null;
let reach=1e-6;
for(const p of cameras.poses)
  reach=Math.max(reach,Math.hypot(p[3]-cameras.focus[0],p[7]-cameras.focus[1],p[11]-cameras.focus[2]));
function place(x,y,z){
  x=(x-cameras.focus[0])/reach;y=(y-cameras.focus[1])/reach;z=(z-cameras.focus[2])/reach;
  const c=Math.cos(turn),s=Math.sin(turn),u=c*x-s*z,w=s*x+c*z,a=Math.cos(tilt),b=Math.sin(tilt);
  return [360+200*zoom*u,240-200*zoom*(a*y-b*w)];
}
function line(a,b,color){
  pen.strokeStyle=color;pen.beginPath();pen.moveTo(...place(...a));pen.lineTo(...place(...b));pen.stroke();
}
function draw(){
  pen.clearRect(0,0,720,480);
  const l=reach/3;
  line([0,0,0],[l,0,0],'#dc2828');line([0,0,0],[0,l,0],'#1ea03c');line([0,0,0],[0,0,l],'#2850dc');
  const size=reach*Math.min(0.12,1.2/Math.sqrt(cameras.poses.length));
  cameras.poses.forEach((p,i)=>{
    const o=[p[3],p[7],p[11]],h=0.5/cameras.focal[i]*size*2,corner=[[-h,-h],[h,-h],[h,h],[-h,h]].map(
      q=>[0,4,8].map((r,k)=>o[k]+p[r]*q[0]+p[r+1]*q[1]+p[r+2]*size));
    corner.forEach((q,k)=>{line(o,q,'rgba(60,60,60,.45)');line(q,corner[(k+1)%4],k==0?'#e08a00':'rgba(60,60,60,.45)');});
  });
  pen.fillStyle='#555';pen.fillText('drag to turn, wheel to zoom; the upper edge of each picture is orange',10,470);
}
canvas.onpointerdown=e=>{held=[e.clientX,e.clientY];canvas.setPointerCapture(e.pointerId);};
canvas.onpointerup=()=>held=null;
canvas.onpointermove=e=>{if(held){turn+=(e.clientX-held[0])/150;tilt+=(e.clientY-held[1])/150;
  held=[e.clientX,e.clientY];draw();}};
canvas.onwheel=e=>{zoom*=Math.exp(-e.deltaY/800);e.preventDefault();draw();};
draw();
"""
