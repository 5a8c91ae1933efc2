"""An image of one program, as an archive of the OCI's image layout."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MEDIA = "application/vnd.oci.image"


def archive(path: Path, name: str, program: Path) -> Path:
    """Write the image `name`, which holds and runs nothing but a static program."""
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    machine = {"os": "linux", "architecture": _ARCHITECTURES[platform.machine()]}
    config = _json(
        {
            **machine,
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": _described(config, "config.v1+json"),
            "layers": [_described(layer, "layer.v1.tar")],
        }
    )
    listed = {
        **_described(manifest, "manifest.v1+json"),
        "platform": machine,
        "annotations": {"io.containerd.image.name": name},
    }
    blobs = {f"blobs/sha256/{_digest(b).partition(':')[2]}": b for b in (layer, config, manifest)}
    index = _json({"schemaVersion": 2, "manifests": [listed]})
    path.write_bytes(
        _tar({"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index, **blobs})
    )
    return path


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _described(content: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": f"{_MEDIA}.{kind}", "digest": _digest(content), "size": len(content)}
