"""Requests as no client of ours would build them: bytes flipped, fields filled with what they should not hold."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import DecodeError

from kvql.v1 import kvql_pb2 as pb

TEXTS = [
    "",
    "a",
    "shop",
    "a b",
    "a.b",
    "my ns!",
    "\x00",
    "\u202e",
    "k" * 513,
    "é" * 300,
    "%",
    "v" * 70_000,
    "x\ny",
    "SELECT 1",
]
NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    12,
    31,
    255,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -1,
    -(2**31),
    -(2**63),
]
RANGES = {
    Field.TYPE_UINT32: (0, 2**32 - 1),
    Field.TYPE_UINT64: (0, 2**64 - 1),
    Field.TYPE_SINT64: (-(2**63), 2**63 - 1),
    Field.TYPE_INT64: (-(2**63), 2**63 - 1),
    Field.TYPE_ENUM: (0, 40),
}


def value(field: Any, rng: random.Random, depth: int) -> Any:
    """Something for one field of a message, right in type and wrong in anything else."""
    match field.type:
        case Field.TYPE_STRING:
            return rng.choice(TEXTS)
        case Field.TYPE_BYTES:
            return (
                bytes(rng.randrange(14) for _ in range(rng.randrange(5))) if rng.random() < 0.8 else rng.randbytes(70)
            )
        case Field.TYPE_BOOL:
            return rng.random() < 0.5
        case Field.TYPE_DOUBLE:
            return rng.choice([0.0, -0.0, 1.5, float("nan"), float("inf"), 1e308])
        case Field.TYPE_MESSAGE:
            return message(field.message_type._concrete_class, rng, depth - 1)
        case _:
            low, high = RANGES[field.type]
            return min(max(rng.choice(NUMBERS), low), high)


def message(cls: type[Any], rng: random.Random, depth: int = 4) -> Any:
    """A message with some of its fields filled."""
    made = cls()
    if depth <= 0:
        return made
    for field in cls.DESCRIPTOR.fields:
        if rng.random() < 0.45:
            set_field(made, field, rng, depth)
    return made


def set_field(made: Any, field: Any, rng: random.Random, depth: int) -> None:
    if field.is_repeated:
        target = getattr(made, field.name)
        for _ in range(rng.choice([0, 1, 1, 2, 3, 9])):
            item = value(field, rng, depth)
            target.append(item)
    elif field.type == Field.TYPE_MESSAGE:
        getattr(made, field.name).CopyFrom(value(field, rng, depth))
    else:
        setattr(made, field.name, value(field, rng, depth))


def mutate_fields(request: Any, rng: random.Random) -> Any:
    """A good request with one field, at any depth, set to something else."""
    changed = type(request)()
    changed.CopyFrom(request)
    at, depth = changed, 4
    while True:
        inner = [v for f, v in at.ListFields() if f.type == Field.TYPE_MESSAGE and not f.is_repeated]
        if not inner or rng.random() < 0.3:
            break
        at = rng.choice(inner)
        depth -= 1
    field = rng.choice(at.DESCRIPTOR.fields) if at.DESCRIPTOR.fields else None
    if field is not None:
        if field.is_repeated and rng.random() < 0.5:
            at.ClearField(field.name)
        else:
            set_field(at, field, rng, max(1, depth))
    return changed


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, doubled and inserted bytes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(4):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + rng.randint(1, 8)]
            case 2:
                out[at:at] = rng.randbytes(rng.randint(1, 4))
            case _:
                out[at:at] = out[at : at + 8]
    return bytes(out)


def request(rng: random.Random, good: Any | None) -> Any | None:
    """A request to try; None where the bytes are no message at all (the transport refuses those)."""
    kind = rng.randrange(3)
    if good is None or kind == 0:
        name = rng.choice([f.name for f in pb.Request.DESCRIPTOR.oneofs_by_name["command"].fields])
        made = pb.Request(namespace=rng.choice(["shop", "", "a.b"]))
        getattr(made, name).CopyFrom(message(type(getattr(made, name)), rng))
    elif kind == 1:
        made = mutate_fields(good, rng)
    else:
        try:
            made = pb.Request.FromString(mutate_bytes(good.SerializeToString(), rng))
        except DecodeError:
            return None
    # a wait is not what is looked for, and neither is a refusal for the sake of a deadline
    made.deadline_ms = 0
    return made
