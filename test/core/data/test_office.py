# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dvmvs_core.data import office
from dvmvs_core.data.office import ADDRESS_VARIABLE, fetch_office, missing_files, read_manifest
from dvmvs_core.errors import DataError

FILES = {
    "K.txt": b"1 0 0\n",
    "poses.txt": b"eye\n" * 40,
    "images/00003.png": b"png" * 9000,
    "depth/00003.png": b"d" * 77,
}
DIGESTS = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}

ZEROS = bytes(1 << 20)


class Server(ThreadingHTTPServer):
    """Serves FILES on the loopback, and counts how often each was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        """What to answer first, in place of the file."""
        self.cut: set[str] = set()
        """Files whose connection breaks half-way."""
        self.padding: dict[str, int] = {}
        """Bytes that follow a file."""
        self.sent = 0
        """How many of them went out."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.removeprefix("/000/")
        self.server.asked[name] += 1
        planned = self.server.answers.get(name)
        status, data = planned.pop(0) if planned else (200, FILES[name])
        self.send_response(status)
        padding = self.server.padding.get(name, 0)
        self.send_header("Content-Length", str(len(data) + padding))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data[: len(data) // 2] if name in self.server.cut else data)
            for _ in range(0, padding, len(ZEROS)):
                self.wfile.write(ZEROS)
                self.server.sent += len(ZEROS)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(ADDRESS_VARIABLE, f"http://127.0.0.1:{server.server_port}/000")
        yield server
        server.shutdown()


def fetch(folder: Path) -> int:
    """Fetch FILES, and return how many files progress was told of."""
    told: list[int] = []
    assert fetch_office(told.append, folder, DIGESTS) == folder
    return sum(told)


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_files_arrive_once(server, tmp_path):
    assert fetch(tmp_path) == len(FILES)
    assert held(tmp_path) == FILES
    assert fetch(tmp_path) == len(FILES)
    assert set(server.asked.values()) == {1}


def test_a_second_try_fetches_what_is_missing_or_damaged(server, tmp_path):
    fetch(tmp_path)
    (tmp_path / "K.txt").unlink()
    (tmp_path / "depth/00003.png").write_bytes(b"half")
    server.asked.clear()
    assert fetch(tmp_path) == len(FILES)
    assert held(tmp_path) == FILES
    assert server.asked == {"K.txt": 1, "depth/00003.png": 1}


@pytest.mark.parametrize("fault", [(200, b"not what was asked for"), (429, b""), (503, b"busy")])
def test_what_arrives_damaged_or_late_is_asked_for_again(server, tmp_path, fault, monkeypatch):
    monkeypatch.setattr(office.time, "sleep", lambda seconds: None)
    server.answers["poses.txt"] = [fault, fault]
    fetch(tmp_path)
    assert held(tmp_path) == FILES
    assert server.asked["poses.txt"] == 3


def test_a_server_that_sends_without_end_is_not_listened_to(server, tmp_path):
    server.padding["K.txt"] = 64 << 20
    with pytest.raises(DataError, match="arrived damaged"):
        fetch(tmp_path)
    assert 0 < server.sent < 4 * (64 << 20) / 2
    assert held(tmp_path) == {name: data for name, data in FILES.items() if name != "K.txt"}


@pytest.mark.parametrize("fault", ["damaged", "cut"])
def test_a_file_that_stays_damaged_is_not_kept(server, tmp_path, fault):
    name = "images/00003.png"
    if fault == "damaged":
        server.answers[name] = [(200, b"damaged")] * 99
    else:
        server.cut.add(name)
    with pytest.raises(DataError, match=r"00003.png arrived damaged .* files are there and stay"):
        fetch(tmp_path)
    assert name not in held(tmp_path)
    server.answers.clear()
    server.cut.clear()
    fetch(tmp_path)
    assert held(tmp_path) == FILES


def test_a_missing_file_is_not_asked_for_again(server, tmp_path):
    server.answers["K.txt"] = [(404, b"")] * 99
    with pytest.raises(DataError, match="Not Found"):
        fetch(tmp_path)
    assert server.asked["K.txt"] == 1


def test_without_a_network_there_is_one_line(monkeypatch, tmp_path):
    with Server() as closed:
        port = closed.server_port
    monkeypatch.setenv(ADDRESS_VARIABLE, f"http://127.0.0.1:{port}/000")
    with pytest.raises(DataError, match=r"0 of 4 files are there and stay.*`make demo` without SEQUENCE") as raised:
        fetch(tmp_path)
    assert "\n" not in str(raised.value) and "Connection refused" in str(raised.value)


def test_the_manifest_names_a_scene_and_agrees_with_it(request):
    digests = read_manifest()
    images = [name for name in digests if name.startswith("images/")]
    assert len(images) == 373 and {"K.txt", "poses.txt"} < digests.keys()
    assert {name.replace("images", "depth") for name in images} < digests.keys()
    part = request.getfixturevalue("hololens")  # 200 of its frames
    named = [str(path.relative_to(part)) for path in part.rglob("*.png")]
    assert len(named) > 300 and not missing_files(part, {name: digests[name] for name in named})
