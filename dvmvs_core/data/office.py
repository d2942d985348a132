# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""The office: a real recording to try things on, fetched from where its authors published it.

It is the sample scene of the DeepVideoMVS repository (github.com/ardaduz/deep-video-mvs, MIT licence): 373 frames of a
hand-held HoloLens, 540×360, with poses and time-of-flight depth. `office.sha256` lists its files as sha256sum does.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from dvmvs_core.atomic import replacing
from dvmvs_core.errors import DataError
from dvmvs_core.runtime.model_cache import cache_folder

OFFICE = "office"

ADDRESS = (
    "https://raw.githubusercontent.com/ardaduz/deep-video-mvs/fa14288f149c5af7b2a49092f729f5c4f44517ba"
    "/sample-data/hololens-dataset/000"
)
ADDRESS_VARIABLE = "DVMVS_OFFICE_URL"
"""Environment variable that names a mirror."""

MANIFEST = Path(__file__).with_name("office.sha256")
SIZE_MB = 143

_LARGEST_FILE = 4_000_000
"""Bytes of a file that are taken at most; none of the real ones has 1 MB."""

_AT_ONCE = 8
_ATTEMPTS = 4
_TIMEOUT_S = 30.0
_LONGEST_WAIT_S = 60.0
_WORTH_WAITING = (429, 500, 502, 503, 504)


def office_folder() -> Path:
    """Return the scene folder that the office is kept in, which need not exist."""
    return cache_folder() / OFFICE


def office_address() -> str:
    """Return where the office is fetched from."""
    return os.environ.get(ADDRESS_VARIABLE) or ADDRESS


def read_manifest(manifest: Path = MANIFEST) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path in the scene folder."""
    return {name: digest for digest, name in (line.split() for line in manifest.read_text().splitlines())}


def missing_files(folder: Path, digests: dict[str, str]) -> list[str]:
    """Return which files are not there, or not as they should be."""
    return [name for name, digest in digests.items() if _digest_of(folder / name) != digest]


def fetch_office(
    advance: Callable[[int], None] = lambda files: None,
    folder: Path | None = None,
    digests: dict[str, str] | None = None,
) -> Path:
    """Fetch the files that `office_folder` lacks; what is there and whole is not fetched again.

    Args:
        advance: called with the number of files that are done.
        folder: where to keep them, if not in `office_folder`.
        digests: of the files to have, if not those of the manifest.

    Returns:
        The scene folder, whose files all have the SHA-256 of the manifest.

    Raises:
        DataError: if a file cannot be fetched or kept, or stays damaged. What was fetched remains for the next try.
    """
    folder = folder or office_folder()
    digests = digests or read_manifest()
    missing = missing_files(folder, digests)
    advance(len(digests) - len(missing))
    address = office_address()
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dvmvs-fetch")
    try:
        fetches = [pool.submit(_fetch, f"{address}/{name}", folder / name, digests[name]) for name in missing]
        for done in as_completed(fetches):
            done.result()
            advance(1)
    except (OSError, http.client.HTTPException) as error:
        pool.shutdown(cancel_futures=True)
        have = len(digests) - len(missing_files(folder, digests))
        raise DataError(
            f"the sequence {OFFICE} cannot be fetched from {address} into {folder} ({getattr(error, 'reason', error)});"
            f" {have} of {len(digests)} files are there and stay. Run it again with a network, which fetches the rest;"
            " `make demo` without SEQUENCE needs none"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    return folder


def _fetch(url: str, path: Path, digest: str) -> None:
    """Fetch one file; what arrives damaged is fetched again, and a server that asks to wait is obeyed for a while."""
    for attempt in range(1, _ATTEMPTS + 1):
        last = attempt == _ATTEMPTS
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
                data = response.read(_LARGEST_FILE)
        except urllib.error.HTTPError as error:
            if last or error.code not in _WORTH_WAITING:
                raise
            time.sleep(_wait_s(error.headers.get("Retry-After"), attempt))
            continue
        except (http.client.IncompleteRead, ConnectionError, TimeoutError):  # it broke off half-way
            data = b""
        if hashlib.sha256(data).hexdigest() == digest:
            with replacing(path) as unfinished:
                unfinished.write_bytes(data)
            return
    raise OSError(f"{url} arrived damaged {_ATTEMPTS} times: expected a file of SHA-256 {digest}")


def _wait_s(retry_after: str | None, attempt: int) -> float:
    """Seconds to wait for a busy server: what it asks for, or twice as long at each attempt."""
    wanted = 2.0**attempt
    with contextlib.suppress(TypeError, ValueError):
        wanted = float(retry_after)
    return min(max(wanted, 0.0), _LONGEST_WAIT_S)


def _digest_of(path: Path) -> str | None:
    """SHA-256 of a file in hexadecimal; None where there is none to be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
