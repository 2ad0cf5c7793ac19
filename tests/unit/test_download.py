"""Downloads that break off, go on, change on the server, or are wanted by two processes."""

from __future__ import annotations

import http.server
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dnnlib.download import download

CONTENT = bytes(range(256)) * 1000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; breaks off after `cut` bytes in each of the first `cuts` answers."""

    content, tag, cut, cuts, chunked = CONTENT, '"one"', 0, 0, False
    ranges: list[str | None] = []

    def do_GET(self):
        server = type(self)
        wanted = self.headers.get("Range") if self.headers.get("If-Range") == server.tag else None
        server.ranges.append(wanted)
        start = int(wanted[len("bytes=") : -1]) if wanted else 0
        if self.path == "/missing.pkl":
            return self.send_error(404)
        if start >= len(server.content):
            return self.send_error(416)
        body = server.content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", server.tag)
        if not server.chunked:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            body = body[: server.cut]
        self.wfile.write(body)
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    class Fresh(Server):
        ranges: list[str | None] = []
        url = ""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fresh) as instance:
        threading.Thread(target=instance.serve_forever, daemon=True).start()
        Fresh.url = f"http://127.0.0.1:{instance.server_port}/net.pkl"
        yield Fresh
        instance.shutdown()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole_file(server, tmp_path):
    download(server.url, tmp_path / "net.pkl")
    assert (tmp_path / "net.pkl").read_bytes() == CONTENT
    assert names(tmp_path) == ["net.pkl"]


def test_length_unknown(server, tmp_path):
    server.chunked = True
    download(server.url, tmp_path / "net.pkl")
    assert (tmp_path / "net.pkl").read_bytes() == CONTENT


def test_goes_on_where_it_broke_off(server, tmp_path):
    server.cut, server.cuts = 100_000, 2
    download(server.url, tmp_path / "net.pkl")
    assert (tmp_path / "net.pkl").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert names(tmp_path) == ["net.pkl"]


def test_a_later_call_goes_on(server, tmp_path):
    server.cut, server.cuts = 1000, 5
    with pytest.raises(ConnectionError, match="broke off after 5000 of 256000 bytes; what has arrived is kept"):
        download(server.url, tmp_path / "net.pkl")
    assert not (tmp_path / "net.pkl").exists()
    download(server.url, tmp_path / "net.pkl")
    assert server.ranges[-1] == "bytes=5000-"
    assert (tmp_path / "net.pkl").read_bytes() == CONTENT


def test_begins_anew_when_the_file_on_the_server_changed(server, tmp_path):
    server.cut, server.cuts = 1000, 5
    with pytest.raises(ConnectionError):
        download(server.url, tmp_path / "net.pkl")
    server.content, server.tag = b"another", '"two"'
    download(server.url, tmp_path / "net.pkl")
    assert (tmp_path / "net.pkl").read_bytes() == b"another"


def test_begins_anew_when_the_part_is_longer_than_the_file(server, tmp_path):
    (tmp_path / "net.pkl.part").write_bytes(b"x" * (len(CONTENT) + 1))
    (tmp_path / "net.pkl.part.version").write_text(server.tag)
    download(server.url, tmp_path / "net.pkl")
    assert (tmp_path / "net.pkl").read_bytes() == CONTENT


def test_one_of_several_downloads(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: download(server.url, tmp_path / "net.pkl"), range(4)))
    assert len(server.ranges) == 1
    assert (tmp_path / "net.pkl").read_bytes() == CONTENT
    assert names(tmp_path) == ["net.pkl"]


def test_says_what_failed_and_leaves_nothing(server, tmp_path):
    with pytest.raises(ConnectionError, match="404"):
        download(server.url.replace("net", "missing"), tmp_path / "net.pkl")
    with pytest.raises(ConnectionError, match=r"refused"):
        download("http://127.0.0.1:9/net.pkl", tmp_path / "net.pkl")
    assert names(tmp_path) == []
