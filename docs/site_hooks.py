"""MkDocs hooks: what the site generates from the code, pages of the files at the root of the repository, and links.

A page says where something is generated: `<!-- generated: commands -->`, a sentence for readers without the site, and
`<!-- end -->`. Links in the Markdown files work on GitHub and in an editor. On the site, a link to a file that has no
page becomes the path of that file, as code.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {
    "README.md": "index.md",
    "README.ko.md": "README.ko.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
START = ("run", "resume", "tune", "load_run", "load_study", "compare")  # of the Python API, listed first
EXPERIMENTS = "reference/experiments.md"
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
GENERATED = re.compile(r"<!-- generated: (?P<name>\w+) -->.*?<!-- end -->", re.DOTALL)
IMAGE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the files at the root."""
    for source, path in ROOT_PAGES.items():
        files.append(File.generated(config, path, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Generate what the page asks for, and point its links to pages of the site."""
    path = page.file.src_uri
    source = next((name for name, site in ROOT_PAGES.items() if site == path), f"docs/{path}")
    markdown = GENERATED.sub(lambda part: GENERATORS[part["name"]](), markdown)
    markdown = IMAGE.sub(lambda link: f"![{link['text']}]({site_path(link['target'], source, path)})", markdown)
    return LINK.sub(lambda link: site_link(link, source, path), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Correct the defaults in the option tables of mkdocs-click.

    An option without a default has an empty cell. A default that is a part of the help text moves to its column.
    """
    html = re.sub(r"<code>Sentinel\.\w+</code>", "", html)
    return re.sub(r" *\[default: ([^\]<]*)\]</td>\n<td>(?:None)?</td>", r"</td>\n<td>\1</td>", html)


def site_link(link: re.Match[str], source: str, page: str) -> str:
    """A Markdown link as it works on the site, or the path of the file as code."""
    target = site_path(link["target"], source, page)
    if target is not None:
        return f"[{link['text']}]({target})"
    file = repository_path(link["target"], source)
    return f"`{file}`" if link["text"].strip("`") in (file, Path(file).name) else f"{link['text']} (`{file}`)"


def repository_path(target: str, source: str) -> str:
    """A link's target relative to the root of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target.partition("#")[0]))


def site_path(target: str, source: str, page: str) -> str | None:
    """A link's target relative to the page; None for a file without a page. Raises PluginError if there is no file."""
    if re.match(r"[a-z]+:|#", target):
        return target
    file = repository_path(target, source)
    anchor = target[len(target.partition("#")[0]) :]
    if file.startswith("docs/"):
        site = file.removeprefix("docs/")  # MkDocs checks that it exists
    elif file in ROOT_PAGES:
        site = ROOT_PAGES[file]
    elif file.startswith("experiments/") and file.endswith(".yaml"):
        site, anchor = EXPERIMENTS, f"#{Path(file).stem}"
    elif (ROOT / file).exists():
        return None
    else:
        raise PluginError(f"{source} links to {target}, which does not exist")
    return posixpath.relpath(site, posixpath.dirname(page) or ".") + anchor


# Python API -----------------------------------------------------------------------------------------------------------


def python_functions() -> str:
    """The public functions, in the order of `START`, then of their names."""
    from harness import api

    functions = [name for name in sorted(api.__all__) if not isinstance(getattr(api, name), type)]
    first = [name for name in START if name in functions]
    return docstrings([*first, *(name for name in functions if name not in first)])


def python_classes() -> str:
    """The public classes, in the order of their names."""
    from harness import api

    return docstrings([name for name in sorted(api.__all__) if isinstance(getattr(api, name), type)])


def docstrings(names: Iterable[str]) -> str:
    """What mkdocstrings replaces by the docstrings of these names of harness.api."""
    import harness

    return "\n\n".join(f"::: harness.{'' if name in harness.__all__ else 'api.'}{name}" for name in names)


# Command line ---------------------------------------------------------------------------------------------------------


def commands() -> str:
    """The options and examples of every command, by subject."""
    from harness.cli import cli
    from harness.cli.help import EXAMPLES, GROUPS

    parts = []
    grouped = [name for names in GROUPS.values() for name in names]
    other = [name for name in cli.commands if name not in grouped]
    for subject, names in {**GROUPS, "Other": other}.items():
        if not names:
            continue
        parts.append(f"## {subject}")
        for name in names:
            callback: Any = cli.commands[name].callback
            options = {"module": callback.__module__, "command": callback.__name__, "prog_name": f"harness {name}"}
            lines = [f"    :{key}: {value}" for key, value in {**options, "depth": 2, "style": "table"}.items()]
            parts.append("\n".join(["::: mkdocs-click", *lines]))
            if examples := EXAMPLES.get(name):
                code = "\n".join(f"# {text}\n{line}" for text, line in examples)
                parts.append(f"**Examples:**\n\n```sh\n{code}\n```")
    return "\n\n".join(parts) + "\n"


# Experiment file ------------------------------------------------------------------------------------------------------


def experiment_keys() -> str:
    """Every key of an experiment file: type, bounds, default and meaning, from the JSON schema."""
    from harness import experiment

    schema = experiment.schema()
    models: Mapping[str, Any] = schema["$defs"]
    sections, plain = {}, {}
    for name, field in schema["properties"].items():
        found = [models[reference] for reference in references(field)]
        (sections if found else plain)[name] = found or field
    parts = ["## Top level", key_table(plain)]
    for name, found in sections.items():
        parts.append(f"## {name}")
        if len(found) == 1:
            parts += [prose(found[0]["description"]), key_table(found[0]["properties"])]
            continue
        for model in found:
            kind = model["properties"]["kind"].get("const", "package.module:Class")
            options = {key: field for key, field in model["properties"].items() if key != "kind"}
            parts += [f"### {name}.kind: {kind}", prose(model["description"]), key_table(options)]
    return "\n\n".join(parts) + "\n"


def references(field: Mapping[str, Any]) -> Iterator[str]:
    """The names of the models that a property of the schema admits."""
    for part in (field, *field.get("anyOf", ()), *field.get("allOf", ())):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]


def key_table(fields: Mapping[str, Any]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        default = yaml.safe_dump(field["default"], default_flow_style=True).split("\n")[0] if "default" in field else ""
        meaning = prose(field.get("description", ""))
        cells = (f"`{name}`", type_of(field), default and f"`{default}`", meaning[:1].upper() + meaning[1:])
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def type_of(field: Mapping[str, Any]) -> str:
    """A property's type and bounds in words."""
    if "anyOf" in field:
        return " or ".join(type_of(part) for part in field["anyOf"])
    if "const" in field or "enum" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        items = field.get("prefixItems") or [field.get("items", {})]
        count = f"{len(items)} " if "prefixItems" in field else ""
        return f"list of {count}({type_of(items[0])})"
    words = {"string": "text", "boolean": "`true` or `false`", "object": "mapping", "null": "`null`"}
    kind = str(field.get("type", "any"))
    return ", ".join([words.get(kind, kind), *bounds(field)])


def bounds(field: Mapping[str, Any]) -> Iterator[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    for key, sign in signs.items():
        if key in field and field[key] < 2**53:  # larger ones only say that it fits 64 bits
            yield f"{sign} {field[key]:,}"


def prose(text: str) -> str:
    """A description with links to the pages that it names."""
    linked = re.sub(r"docs/(\w+)\.md", r"[\1](../\1.md)", text)
    return " ".join(re.sub(r"<(?=\w)", "&lt;", linked).split())


# Bundled experiments --------------------------------------------------------------------------------------------------


def bundled_experiments() -> str:
    """The experiment files that come with the package, as they are."""
    parts = []
    for path in sorted((ROOT / "experiments").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        parts += [f"## {path.stem}", f"```yaml\n{text.rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


GENERATORS: Mapping[str, Callable[[], str]] = {
    "functions": python_functions,
    "classes": python_classes,
    "commands": commands,
    "keys": experiment_keys,
    "experiments": bundled_experiments,
}
