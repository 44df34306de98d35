"""Refuse changes of the wire that would break the release before (DESIGN §4, §10).

The committed snapshot, ``proto/kvql/v1/accepted.binpb``, is the descriptor set of the wire as it was last accepted.
Adding is fine; removing, renumbering, retyping or renaming a field, an enum value, a message or a call is a break:

    python tools/check_wire.py            compare, exit 1 with one line a break
    python tools/check_wire.py --accept   take the present wire as the new snapshot (after reading those lines)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto/kvql/v1/kvql.proto"
ACCEPTED = ROOT / "proto/kvql/v1/accepted.binpb"


def describe(source: Path, include: Path) -> FileDescriptorProto:
    """The descriptor of one .proto file, without source locations."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.binpb"
        arguments = ["protoc", f"-I{include}", f"-I{resources.files('grpc_tools') / '_proto'}"]
        if protoc.main([*arguments, f"--descriptor_set_out={out}", str(source)]) != 0:
            sys.exit("protoc failed")
        return FileDescriptorSet.FromString(out.read_bytes()).file[0]


def breaks(old: FileDescriptorProto, new: FileDescriptorProto) -> list[str]:
    """What a client built from ``old`` could no longer do with a server built from ``new``; one sentence each."""
    return [*_package(old, new), *_messages(old, new), *_enums(old, new), *_calls(old, new)]


def _package(old: FileDescriptorProto, new: FileDescriptorProto) -> Iterator[str]:
    if old.package != new.package:
        yield f"package {old.package} became {new.package}"


def _all_messages(file: FileDescriptorProto) -> dict[str, DescriptorProto]:
    found: dict[str, DescriptorProto] = {}
    waiting = [(m.name, m) for m in file.message_type]
    while waiting:
        name, message = waiting.pop()
        found[name] = message
        waiting += [(f"{name}.{m.name}", m) for m in message.nested_type]
    return found


def _all_enums(file: FileDescriptorProto) -> dict[str, EnumDescriptorProto]:
    found = {e.name: e for e in file.enum_type}
    for name, message in _all_messages(file).items():
        found |= {f"{name}.{e.name}": e for e in message.enum_type}
    return found


def _messages(old: FileDescriptorProto, new: FileDescriptorProto) -> Iterator[str]:
    present = _all_messages(new)
    for name, before in sorted(_all_messages(old).items()):
        after = present.get(name)
        if after is None:
            yield f"message {name} is gone"
            continue
        by_number = {f.number: f for f in after.field}
        for was in before.field:
            yield from _field(name, was, by_number.get(was.number), before, after)


def _field(
    message: str,
    was: FieldDescriptorProto,
    now: FieldDescriptorProto | None,
    before: DescriptorProto,
    after: DescriptorProto,
) -> Iterator[str]:
    place = f"field {message}.{was.name} = {was.number}"
    if now is None:
        if not any(r.start <= was.number < r.end for r in after.reserved_range):
            yield f"{place} is gone and its number is not reserved"
        else:
            yield f"{place} is gone"
        return
    if now.name != was.name:
        yield f"{place} became {now.name}"
    if (now.type, now.type_name) != (was.type, was.type_name):
        yield f"{place} changed its type from {_type(was)} to {_type(now)}"
    if now.label != was.label:
        yield f"{place} changed between one and many"
    if now.proto3_optional != was.proto3_optional:
        yield f"{place} changed between optional and plain"
    if _oneof(now, after) != _oneof(was, before):
        yield f"{place} moved into or out of a oneof"


def _type(field: FieldDescriptorProto) -> str:
    return field.type_name.lstrip(".") or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _oneof(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    if not field.HasField("oneof_index") or field.proto3_optional:
        return ""
    return message.oneof_decl[field.oneof_index].name


def _enums(old: FileDescriptorProto, new: FileDescriptorProto) -> Iterator[str]:
    present = _all_enums(new)
    for name, before in sorted(_all_enums(old).items()):
        after = present.get(name)
        if after is None:
            yield f"enum {name} is gone"
            continue
        by_number = {v.number: v.name for v in after.value}
        for value in before.value:
            now = by_number.get(value.number)
            if now is None:
                yield f"value {name}.{value.name} = {value.number} is gone"
            elif now != value.name:
                yield f"value {name}.{value.name} = {value.number} became {now}"


def _calls(old: FileDescriptorProto, new: FileDescriptorProto) -> Iterator[str]:
    services = {s.name: {m.name: m for m in s.method} for s in new.service}
    for service in old.service:
        if service.name not in services:
            yield f"service {service.name} is gone"
            continue
        for call in service.method:
            now = services[service.name].get(call.name)
            place = f"call {service.name}.{call.name}"
            if now is None:
                yield f"{place} is gone"
                continue
            if (now.input_type, now.output_type) != (call.input_type, call.output_type):
                yield f"{place} changed its messages"
            if (now.client_streaming, now.server_streaming) != (call.client_streaming, call.server_streaming):
                yield f"{place} changed between single and stream"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="take the present wire as the new snapshot")
    accept = parser.parse_args().accept
    new = describe(SOURCE, ROOT / "proto")
    if accept:
        ACCEPTED.write_bytes(new.SerializeToString(deterministic=True))
        print(f"wrote {ACCEPTED.relative_to(ROOT)}")
        return
    if not ACCEPTED.exists():
        sys.exit(f"{ACCEPTED.relative_to(ROOT)} is missing; run: python tools/check_wire.py --accept")
    found = breaks(FileDescriptorProto.FromString(ACCEPTED.read_bytes()), new)
    if found:
        lines = "\n".join(f"  {line}" for line in found)
        sys.exit(
            f"the wire breaks clients of the release before:\n{lines}\nif that is meant: tools/check_wire.py --accept"
        )


if __name__ == "__main__":
    main()
