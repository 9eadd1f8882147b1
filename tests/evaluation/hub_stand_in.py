"""A small stand-in for the Hugging Face Hub: repositories in memory over plain HTTP, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

Files = dict[str, bytes]
_PIECE = 1 << 16


class HubStandIn(ThreadingHTTPServer):
    """Repositories by name; `refs` name their commits. `faults` are (pattern, status, headers, times).

    `rate` bounds the bytes a second of each answer (0: no bound); `asked` are all paths, `sent` all bytes of contents.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, dict[str, Files]] = {}
        self.refs: dict[str, dict[str, str]] = {}
        self.faults: list[list[Any]] = []
        self.fetched: list[str] = []
        self.asked: list[str] = []
        self.rate = 0.0
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def publish(self, repository: str, files: Files, ref: str = "main") -> str:
        """A new commit of a repository that `ref` then names."""
        known = self.commits.setdefault(repository, {})
        commit = hashlib.sha1(f"{repository}{len(known)}".encode()).hexdigest()
        known[commit] = files
        self.refs.setdefault(repository, {})[ref] = commit
        return commit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubStandIn

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        for fault in self.server.faults:
            pattern, status, headers, times = fault
            if times and re.search(pattern, path):
                fault[3] -= 1
                self._send(status, b"", headers)
                return
        # The repository of a data set is called "datasets.organisation/name" here.
        path = path.replace("/api/models/", "/api/").replace("/datasets/", "/datasets.")
        if found := re.fullmatch(r"/api/([^/]+/[^/]+)/tree/([0-9a-f]{40})", path):
            files = self.server.commits[found[1]][found[2]]
            listed = [{"type": "file", "path": n, "size": len(c), "oid": _digest(c)} for n, c in files.items()]
            self._send(200, json.dumps(listed).encode())
        elif found := re.fullmatch(r"/api/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if commit := self._commit(found[1], found[2]):
                names = [{"rfilename": name} for name in self.server.commits[found[1]][commit]]
                self._send(
                    200,
                    json.dumps({"id": found[1].removeprefix("datasets."), "sha": commit, "siblings": names}).encode(),
                )
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+|refs/pr/\d+)/(.+)", path):
            if commit := self._commit(found[1], found[2]):
                content = self.server.commits[found[1]][commit][found[3]]
                if self.command == "GET":
                    self.server.fetched.append(found[3])
                mark = _digest(content, "sha256" if found[3].endswith(".safetensors") else "sha1")
                self._send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{mark}"'})
        else:
            self._send(404, b"")

    do_HEAD = do_GET

    def _commit(self, repository: str, revision: str | None) -> str | None:
        if repository not in self.server.commits:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        revision = revision or "main"
        commit = self.server.refs[repository].get(revision, revision)
        if commit not in self.server.commits[repository]:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        headers = dict(headers or {})
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and status == 200:
            whole, start = len(content), int(asked[1])
            content = content[start : int(asked[2]) + 1 if asked[2] else None]
            status, headers["Content-Range"] = 206, f"bytes {start}-{start + len(content) - 1}/{whole}"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(content), _PIECE):
            piece = content[start : start + _PIECE]
            if self.server.rate:
                time.sleep(len(piece) / self.server.rate)
            try:
                self.wfile.write(piece)
            except OSError:
                return  # nobody listens any more
            self.server.sent += len(piece)

    def log_message(self, *args: Any) -> None:
        pass


def _digest(content: bytes, kind: str = "sha1") -> str:
    return hashlib.new(kind, content).hexdigest()


@contextmanager
def served(patched: pytest.MonkeyPatch, cache: Path) -> Iterator[HubStandIn]:
    """A running stand-in that huggingface_hub in this process and its children asks, with an empty cache."""
    from huggingface_hub import constants, file_download, hf_api

    hub = HubStandIn()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    patched.setattr(constants, "ENDPOINT", hub.url)
    patched.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patched.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    patched.setattr(hf_api, "ENDPOINT", hub.url, raising=False)
    patched.setattr(constants, "HF_HUB_CACHE", str(cache))
    patched.setattr(constants, "HF_HUB_OFFLINE", False)
    patched.setenv("HF_ENDPOINT", hub.url)
    patched.setenv("HF_HUB_CACHE", str(cache))
    patched.setenv("HF_TOKEN_PATH", str(cache / "no-token"))
    patched.delenv("HF_HUB_OFFLINE", raising=False)
    patched.delenv("HF_TOKEN", raising=False)
    patched.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
