"""States of models, optimizers and similar objects as bytes: JSON and safetensors, never a
pickle."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Stateful(Protocol):
    """Objects with a state: torch's modules, optimizers and schedulers."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any) -> Any:
        """Restore a state."""


class BadState(ValueError):
    """A stored state cannot be used."""


def pack(head: Mapping[str, Any], states: Mapping[str, Any]) -> bytes:
    """A document and states as bytes: a SHA-256 of the rest, the length of the JSON, the JSON, the
    tensors.

    Args:
        head: plain data.
        states: trees of dicts, lists, tensors, numbers and texts.

    Raises:
        TypeError: a state contains another type; the message says where.
    """
    tensors: dict[str, Tensor] = {}
    trees = {name: _plain(state, name, tensors) for name, state in states.items()}
    document = json.dumps({"head": dict(head), "states": trees}).encode()
    body = b""
    if tensors:
        from safetensors.torch import save

        body = save(tensors)
    data = len(document).to_bytes(8, "little") + document + body
    return hashlib.sha256(data).digest() + data


def unpack(raw: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inverse of `pack`.

    Raises:
        BadState: it is damaged.
    """
    data = raw[32:]
    if hashlib.sha256(data).digest() != raw[:32]:
        raise BadState("its checksum is wrong")
    size = int.from_bytes(data[:8], "little")
    body = data[8 + size :]
    try:
        document = json.loads(data[8 : 8 + size])
        tensors = {}
        if body:
            from safetensors.torch import load

            tensors = load(body)
        states = {name: _rich(tree, tensors) for name, tree in document["states"].items()}
        return document["head"], states
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadState(f"it is not a checkpoint of the sdk ({error})") from None


def _plain(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """A tree as JSON. Types that JSON lacks are lists whose first item names the type."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        # by number: keys with points in them could give two tensors one path
        name = str(len(tensors))
        # a copy: safetensors refuses tensors that share memory, as tied weights do
        tensors[name] = value.detach().cpu().clone().contiguous()
        return ["tensor", name]
    if value is None or isinstance(value, bool | int | float | str):
        return ["value", value]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_plain(x, f"{where}.{i}", tensors) for i, x in enumerate(value)]]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise TypeError(f"{where} has the key {key!r}; use texts and whole numbers")
        return ["dict", [[k, _plain(v, f"{where}.{k}", tensors)] for k, v in value.items()]]
    raise TypeError(
        f"{where} is of type {type(value).__name__}; a state holds tensors, numbers, texts, lists "
        "and dicts"
    )


def _rich(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    kind, value = tree
    match kind:
        case "tensor":
            return tensors[value]
        case "value":
            return value
        case "list":
            return [_rich(x, tensors) for x in value]
        case "tuple":
            return tuple(_rich(x, tensors) for x in value)
        case "dict":
            return {key: _rich(x, tensors) for key, x in value}
    raise ValueError(f"{kind!r} is not known")
