"""The YAML of experiments: the core schema of YAML 1.2, with every field read by its declared type.

PyYAML follows YAML 1.1, where 010 is 8, 1:30 is 90, `yes` is true and 2026-11-22 is a date. Here 010 is 10, and the
others are text. A field for text is literal (`name: 2024`); a field for numbers takes decimal ones. Written text is
quoted if either version of YAML would read it as something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

FieldType = Literal["text", "text or null", "number"]
Lookup = Callable[[str], FieldType | None]  # the type of the field of a dotted path; None where it is not declared

UNREADABLE = (yaml.YAMLError, ValueError, RecursionError)  # the latter two for !!int x and for [[[[...

_TAG = "tag:yaml.org,2002:"
_NULL, _STR, _MERGE = f"{_TAG}null", f"{_TAG}str", f"{_TAG}merge"
_OTHER_BASE = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_INT = r"[-+]?[0-9]+"
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_RESOLVERS = (  # in this order: every int looks like a float
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", rf"{_INT}|{_OTHER_BASE.pattern}", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
)


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, and reads every key as text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own name

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping after checking its keys."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a list or mapping cannot be a key", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
            if key.tag != _MERGE:
                key.tag = _STR
        return super().construct_mapping(node, deep)

    def _int(self, node: ScalarNode) -> int:
        text = str(node.value)
        return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))

    def _float(self, node: ScalarNode) -> float:
        text = str(node.value).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Keeps PyYAML's rules of YAML 1.1, so that its readers do not misread a text either."""


for _name, _pattern, _first in _RESOLVERS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_implicit_resolver(_MERGE, re.compile("^<<$"), ["<"])
_Loader.add_constructor(f"{_TAG}int", _Loader._int)
_Loader.add_constructor(f"{_TAG}float", _Loader._float)


def dump(tree: Any) -> str:
    """Return the YAML text that `load` reads as the same tree."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=120)


def load(text: str, lookup: Lookup) -> Any:
    """Read a YAML text, with the types that `lookup` returns. Raises one of UNREADABLE."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        return None if root is None else loader.construct_document(_apply_types(root, "", lookup))
    finally:
        loader.dispose()


def load_value(text: str, field_type: FieldType | None) -> Any:
    """Read one value from the command line, for a field of that type. Raises one of UNREADABLE.

    The whole text is the value, including what YAML would read as a comment.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return text.strip() or None
        rest = text[root.end_mark.index :].strip()
        if isinstance(root, ScalarNode) and root.style is None and (rest or root.tag == _STR):
            return text.strip()
        if rest:
            raise ValueError(f"there is more after the value: {rest}")
        return loader.construct_document(_apply_type(root, field_type))
    finally:
        loader.dispose()


def _apply_types(node: Node, prefix: str, lookup: Lookup) -> Node:
    """Type each field of a file by its path: nested sections, or dotted paths below `search:`."""
    if not isinstance(node, MappingNode):
        return node
    children = []
    for key, value in node.value:
        if isinstance(key, ScalarNode):
            path = f"{prefix}{key.value}"
            if field_type := lookup(path):
                value = _apply_type(value, field_type)
            else:
                inside = "" if path in ("search", "search_budget") else f"{path}."
                value = _apply_types(value, inside, lookup)
        children.append((key, value))
    return MappingNode(node.tag, children, node.start_mark, node.end_mark, node.flow_style)


def _apply_type(node: Node, field_type: FieldType | None) -> Node:
    """A copy in which every unquoted scalar has the type of the field; quoted ones are text already."""
    if field_type is None:
        return node
    marks = node.start_mark, node.end_mark
    if isinstance(node, ScalarNode):
        if field_type == "number":
            as_text = _OTHER_BASE.fullmatch(node.value) is not None
        else:
            as_text = not (field_type == "text or null" and node.tag == _NULL)
        return ScalarNode(_STR, node.value, *marks, node.style) if as_text and node.style is None else node
    if isinstance(node, SequenceNode):
        return SequenceNode(node.tag, [_apply_type(each, field_type) for each in node.value], *marks, node.flow_style)
    if isinstance(node, MappingNode) and field_type == "number":  # below a text are its choices, in a search space
        children = [(key, value if key.value == "log" else _apply_type(value, field_type)) for key, value in node.value]
        return MappingNode(node.tag, children, *marks, node.flow_style)
    return node
