"""What the nodes of ``kvql.ast`` are made of: frozen dataclasses with slots, cheap to define and cheap to make.

``dataclasses`` writes and compiles six methods for each class when it is defined: 40 ms for the 85 classes of the tree,
a quarter of what ``kvql -c 'GET k'`` may take in all. And a frozen one fills each field through
``object.__setattr__``, 0.8 µs a node where 0.3 are enough; a script makes half a million nodes. So here the methods are
shared, and the constructor of a class is compiled when it is first called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar, dataclass_transform

_T = TypeVar("_T")


class _Field:
    """A field that takes no part in comparison and is given by name only."""


def hidden(*, default: None, kw_only: bool) -> Any:
    """The default of ``span``: None, by name only, in neither ``==`` nor ``repr``. (Type checkers read this.)"""
    return _HIDDEN


_HIDDEN: Final = _Field()


class Node:
    """The shared methods. Equal are nodes of one class whose fields are equal, wherever they stand in a text."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ()
    """The names of all fields but the hidden ones, in order."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        _compile(cls)
        return cls.__new__(cls, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._fields)

    def __hash__(self) -> int:
        return hash((type(self), *[getattr(self, name) for name in self._fields]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        slots: tuple[str, ...] = self.__slots__
        hidden_fields = {name: getattr(self, name) for name in slots if name not in self._fields}
        return _rebuild, (type(self), tuple([getattr(self, name) for name in self._fields]), hidden_fields)

    def __copy__(self: _T) -> _T:
        return self


def _rebuild(cls: type[Any], values: tuple[Any, ...], hidden_fields: dict[str, Any]) -> Any:
    return cls(*values, **hidden_fields)


@dataclass_transform(frozen_default=True, eq_default=True, field_specifiers=(hidden,))
def node(cls: type[_T]) -> type[_T]:
    """The class with a slot for each annotated name and the methods of :class:`Node`."""
    names = tuple(cls.__annotations__)
    given = dict(cls.__dict__)
    defaults = {name: given.pop(name) for name in names if name in given}
    for name in ("__dict__", "__weakref__"):
        given.pop(name, None)
    given["__slots__"] = names
    given["_fields"] = tuple(name for name in names if defaults.get(name) is not _HIDDEN)
    given["__match_args__"] = given["_fields"]
    given["_defaults"] = defaults
    made: type[_T] = type(cls.__name__, (Node,), given)
    return made


def _compile(cls: Any) -> None:
    """Write the constructor of ``cls``."""
    scope: dict[str, Any] = {"make": maker(cls)}
    parameters: list[str] = []
    by_name: list[str] = []
    for name in cls.__slots__:
        default = cls._defaults.get(name, scope)
        if default is _HIDDEN:
            by_name.append(f"{name}=None")
            continue
        if default is not scope:
            scope[f"d_{name}"] = default
        parameters.append(name if default is scope else f"{name}=d_{name}")
    signature = ", ".join(["_", *parameters, *(["*", *by_name] if by_name else [])])
    exec(f"def __new__({signature}): return make({', '.join(cls.__slots__)})", scope)  # noqa: S102 - names of our own fields, as in dataclasses
    made: Callable[..., Any] = scope["__new__"]
    made.__qualname__ = f"{cls.__name__}.__new__"
    cls.__new__ = staticmethod(made)


def maker(cls: type[_T]) -> Callable[..., _T]:
    """A constructor that takes all fields by position, the hidden ones too, and costs half: for the parser's builders.

    It fills a mutable twin of the same layout, and then lets it be a ``cls``.
    """
    slots: tuple[str, ...] = cls.__slots__  # type: ignore[attr-defined]  # given by node()
    twin = type(cls.__name__, (Node,), {"__slots__": slots, "__setattr__": object.__setattr__})
    scope: dict[str, Any] = {"new": object.__new__, "twin": twin, "cls": cls}
    body = "".join(f"    o.{name} = {name}\n" for name in slots)
    exec(f"def make({', '.join(slots)}):\n    o = new(twin)\n{body}    o.__class__ = cls\n    return o", scope)  # noqa: S102 - as above
    made: Callable[..., _T] = scope["make"]
    return made
