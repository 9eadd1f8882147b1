"""A small stand-in for the Hugging Face Hub: repositories in memory over plain HTTP, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

Files = dict[str, bytes]


class HubStandIn(ThreadingHTTPServer):
    """Repositories by name; `refs` name their commits. `faults` are (pattern, status, headers, times)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, dict[str, Files]] = {}
        self.refs: dict[str, dict[str, str]] = {}
        self.faults: list[list[Any]] = []
        self.fetched: list[str] = []

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
        for fault in self.server.faults:
            pattern, status, headers, times = fault
            if times and re.search(pattern, path):
                fault[3] -= 1
                self._send(status, b"", headers)
                return
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([0-9a-f]{40})", path):
            files = self.server.commits[found[1]][found[2]]
            listed = [{"type": "file", "path": n, "size": len(c), "oid": _digest(c)} for n, c in files.items()]
            self._send(200, json.dumps(listed).encode())
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if commit := self._commit(found[1], found[2]):
                names = [{"rfilename": name} for name in self.server.commits[found[1]][commit]]
                self._send(200, json.dumps({"id": found[1], "sha": commit, "siblings": names}).encode())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+|refs/pr/\d+)/(.+)", path):
            if commit := self._commit(found[1], found[2]):
                content = self.server.commits[found[1]][commit][found[3]]
                if self.command == "GET":
                    self.server.fetched.append(found[3])
                self._send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{_digest(content)}"'})
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
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def served(patched: pytest.MonkeyPatch, cache: Path) -> Iterator[HubStandIn]:
    """A running stand-in that huggingface_hub in this process asks, with an empty cache."""
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
    patched.delenv("HF_HUB_OFFLINE", raising=False)
    patched.delenv("HF_TOKEN", raising=False)
    patched.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
