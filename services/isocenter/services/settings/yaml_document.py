"""Settings in YAML: the document, and the line of each setting."""

from __future__ import annotations

from typing import Any, Final

#: Deeper than any setting is.
_MOST_NESTED: Final = 20
#: What YAML 1.1 makes of a plain text by itself; a day stays text, as in TOML's strings.
_KEPT_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null", "str", "seq", "map")
)


def read_yaml(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """What a document says, and ``section.name`` or ``peers, no. 2`` → its line, from 1.

    Raises:
        ValueError: it is not YAML, or has what settings do without: anchors, tags, a key twice.
    """
    import yaml  # few configurations are written in it

    class Loader(yaml.SafeLoader):
        """Plain values only."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT_TAGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    lines: dict[str, int] = {}

    def built(node: yaml.Node, path: tuple[str, ...]) -> Any:
        if node.tag not in _KEPT_TAGS:
            raise ValueError(f"line {_line(node)}: {node.tag} is no value of a setting")
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = plain(key_node)
                if not isinstance(key, str):
                    key = str(key_node.value)
                if key in found:
                    raise ValueError(f"line {_line(key_node)}: {key} stands there twice")
                lines.setdefault(".".join((*path, key)), _line(key_node))
                found[key] = built(value_node, (*path, key))
            return found
        if isinstance(node, yaml.SequenceNode):
            name = ".".join(path)
            for number, one in enumerate(node.value, 1):
                lines.setdefault(f"{name}, no. {number}", _line(one))
            return [built(one, (*path, str(number))) for number, one in enumerate(node.value)]
        return plain(node)

    def plain(node: yaml.Node) -> Any:
        try:
            return loader.construct_object(node, deep=True)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"line {_line(node)}: {node.tag} has no such value") from error

    try:
        _check_events(yaml, text)
        loader = Loader(text)
        try:
            node = loader.get_single_node()
            content = {} if node is None else built(node, ())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise ValueError("it has to be sections with settings in them")
    return content, lines


def _check_events(yaml: Any, text: str) -> None:
    """Refuse what could make a small file a large document, before one is made of it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if getattr(event, "anchor", None):
            raise ValueError(
                f"line {event.start_mark.line + 1}: anchors and aliases are not taken; write the "
                "value where it is meant"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MOST_NESTED:
            raise ValueError(f"line {event.start_mark.line + 1}: nested too deep")


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
