"""YAML that people write: job specs, subunits, projects, configurations of runs, their values."""

from typing import Any

import yaml

from raydrgn.errors import ConfigError

TAB = "found character '\\t'"
"""How PyYAML's reason begins where a line is indented with a tab."""


class _DistinctKeys(yaml.composer.Composer):
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Read a table, whose merged keys (``<<``) are not yet its own."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        known = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in known:
                    raise yaml.composer.ComposerError(
                        None, None, f"the key {key.value!r} is given twice", key.start_mark
                    )
                known.add(key.value)
        return node


class _ValueLoader(_DistinctKeys, yaml.SafeLoader):
    """Reads numbers, dates and truth values as such."""


class _TextLoader(_DistinctKeys, yaml.BaseLoader):
    """Reads all values as text, so that the chains 1 and NO stay names."""


def parse_table(content: bytes, where: str) -> dict[str, Any]:
    """Return the keys and values of a file.

    Args:
        content: Of the file.
        where: Its name in messages.

    Raises:
        ConfigError: If it holds anything else.
    """
    raw = _parse(content, where, _ValueLoader)
    if not isinstance(raw, dict):
        kind = "nothing" if raw is None else "a list" if isinstance(raw, list) else "a single value"
        raise ConfigError(f"{where} should contain keys and values; found {kind}.")
    for key in raw:
        if not isinstance(key, str):
            raise ConfigError(f"{where} should contain names of settings; found the key {key!r}.")
    return raw


def parse_value(text: str, where: str) -> Any:
    """Return the value that a word of a command line is.

    Raises:
        ConfigError: If it is not YAML.
    """
    return _parse(text, where, _ValueLoader)


def parse_text(content: bytes, where: str) -> Any:
    """Return what a file holds, with all values as text.

    Raises:
        ConfigError: If it is not YAML.
    """
    return _parse(content, where, _TextLoader)


def _parse(content: bytes | str, where: str, loader: type[_ValueLoader | _TextLoader]) -> Any:
    try:
        return yaml.load(content, Loader=loader)
    except RecursionError as error:
        raise ConfigError(f"{where} is not YAML: it is nested too deeply.") from error
    except (yaml.YAMLError, ValueError) as error:  # a date that is none
        raise ConfigError(f"{where} is not YAML: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """Return what is wrong with a file, in one line, with the number of its line."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position + 1} cannot be read ({error.reason}); save it as UTF-8"
    mark = getattr(error, "problem_mark", None)
    text = str(getattr(error, "problem", None) or error)
    if text.startswith(TAB):
        text += "; indent with spaces instead of tabs"
    return text if mark is None else f"line {mark.line + 1}: {text}"
