"""What the rooms of the package keep to, as pure functions: a folder in, a list of complaints out.

The sources are read, never imported, so an import inside a function or for the type checker counts
as any other. A rule is tested twice (test_rooms.py): over the course, and on a model of it in small
that is damaged on purpose, so that none of them is blind.
"""

from __future__ import annotations

import ast
import graphlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["MAX_LINES", "ROOMS", "RULES", "House"]

# In the order in which data flows: a room imports only rooms that stand before it.
ROOMS = (
    "errors dicom cohort simulate datasets preprocess augment models losses metrics training "
    "explain report plotting deploy widgets exercises"
).split()
# Of medlab without exercises. 12,000 were meant for the whole course; what is more is asked for by
# lessons, the command or users. So this may fall and must not rise: a new room pays for itself.
MAX_LINES = 13_260


@dataclass(frozen=True)
class Module:
    """A file of the package.

    Attributes:
        name: dotted, as "medlab.dicom.series"; a room's `__init__.py` has the room's own.
        path: where it lies.
    """

    name: str
    path: Path

    @property
    def room(self) -> str:
        inner = "." in self.name and self.path.stem != "__main__"  # the command enters by the doors
        return self.name.split(".")[1] if inner else ""

    @property
    def is_init(self) -> bool:
        return self.path.name == "__init__.py"

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))

    def imports(self) -> Iterator[tuple[str, str]]:
        """Each (module, name) that it imports, wherever it does; name is "" for a module alone."""
        package = self.name if self.is_init else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                start = base if node.level else []
                module = ".".join([*start, *filter(None, [node.module])])
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names)
            elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
                match node.args:
                    case [ast.Constant(value=str(module)), *_]:
                        yield module, ""

    def defined(self) -> set[str]:
        """Functions and classes at its top level."""
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        return {node.name for node in self.tree.body if isinstance(node, kinds)}

    def public(self) -> list[str] | None:
        """Its `__all__`, or None where it has none."""
        return _assigned(self.tree, "__all__")


@dataclass(frozen=True)
class House:
    """A folder laid out as the course is.

    Attributes:
        root: the folder.
        needs: public names that nothing in the course uses, as "room.name", each with the reader's
            need that keeps it.
    """

    root: Path
    needs: dict[str, str]

    @cached_property
    def modules(self) -> dict[str, Module]:
        found = {}
        for path in sorted((self.root / "medlab").rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, path)
        return found

    @cached_property
    def rooms(self) -> list[str]:
        return sorted({module.room for module in self.modules.values()} - {""})

    @cached_property
    def lent(self) -> dict[str, str]:
        """Name → room of what stands in `medlab` itself, as `medlab.fit`."""
        return _assigned(self.modules["medlab"].tree, "_NAMES") or {}

    @cached_property
    def public(self) -> dict[str, list[str]]:
        """Public names of each room."""
        return {room: self.modules[f"medlab.{room}"].public() or [] for room in self.rooms}

    def target(self, module: str, name: str) -> str | None:
        """The file of the package that `from module import name` reaches, or None outside it."""
        if module.split(".")[0] != "medlab":
            return None
        full = f"{module}.{name}" if name else module
        return full if full in self.modules else module

    def is_taken(self, module: Module) -> bool:
        """Whether the room holds something else under the name of a file in it."""
        room = self.modules[f"medlab.{module.room}"]
        taken = {name for source, name in room.imports() if self.target(source, name) == source}
        return module.path.stem in taken | room.defined()

    def edges(self) -> Iterator[tuple[Module, Module, str]]:
        """Each import of one file of the package by another, and the name it takes or ""."""
        for module in self.modules.values():
            for source, name in module.imports():
                target = self.target(source, name)
                if target in self.modules and target != module.name:
                    taken = "" if target == f"{source}.{name}" else name
                    yield module, self.modules[target], taken

    def texts(self) -> Iterator[tuple[str, str]]:
        """Place and source of all code outside the package, exercises included."""
        for folder in ("data_scripts", "benchmarks", "notebooks", "medlab/exercises"):
            for path in sorted((self.root / folder).glob("*.py")):
                yield str(path.relative_to(self.root)), path.read_text(encoding="utf-8")
        yield from self.notebooks()
        readme = (self.root / "README.md").read_text(encoding="utf-8")
        inline = re.findall(r"`(medlab(?:\.\w+)+)", readme)
        yield "README.md", "\n".join(["import medlab", _fenced(readme), *inline])

    def notebooks(self) -> Iterator[tuple[str, str]]:
        """Name and code of each notebook: its cells, then the solutions that its text holds."""
        for path in sorted((self.root / "notebooks").glob("*.ipynb")):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
            code = [
                re.sub(r"^\s*[%!].*$", "", text, flags=re.M)
                for kind, text in sources
                if kind == "code"
            ]
            prose = "\n".join(text for kind, text in sources if kind == "markdown")
            yield path.name, "\n".join([*code, _fenced(prose)])


# ------------------------------------------------------------------------------ reading


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _assigned(tree: ast.Module, name: str):
    """Value of a literal that is assigned to `name` at the top level, or None.

    Lists may spread others, as in ["load", *_NAMES]; a dict spreads its keys.

    Raises:
        ValueError: it is computed in another way.
    """
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = node.value
            if isinstance(value, ast.Call) and getattr(value.func, "attr", "") == "split":
                return ast.literal_eval(value.func.value).split()
            if not isinstance(value, ast.List | ast.Tuple):
                return ast.literal_eval(value)
            return [
                text
                for part in value.elts
                for text in (
                    _assigned(tree, part.value.id) or []
                    if isinstance(part, ast.Starred) and isinstance(part.value, ast.Name)
                    else [ast.literal_eval(part)]
                )
            ]
    return None


def _fenced(markdown: str) -> str:
    """The fenced blocks of Python in a page that are whole programs."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", markdown, re.S | re.M)
    return "\n".join(block for block in blocks if _parses(block))


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _dotted(node: ast.AST) -> str | None:
    """ "a.b.c" of an attribute access, or None."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else None


def _mentions(source: str) -> set[str]:
    """Everything of medlab that a source names, in full, as "medlab.metrics.auc"."""
    tree = ast.parse(source)
    means, found = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medlab":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                means[alias.asname or alias.name] = full
                found.add(full)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "medlab":
                    means[alias.asname or "medlab"] = alias.name if alias.asname else "medlab"
                    found.add(alias.name)
    for node in ast.walk(tree):
        if (dotted := _dotted(node)) is not None:
            first, _, rest = dotted.partition(".")
            if first in means and rest:
                found.add(f"{means[first]}.{rest}")
    return found


# ------------------------------------------------------------------------------ rules


def order(house: House) -> Iterator[str]:
    """A room imports only rooms before it, and never `medlab` itself."""
    for room in house.rooms:
        if room not in ROOMS:
            yield f"medlab/{room} is no room of the list"
    for module, target, name in house.edges():
        if module.room not in ROOMS or target.room == module.room:
            continue
        if target.name == "medlab":
            yield f"{module.name} imports medlab{'.' + name if name else ''}, not a room"
        elif target.room in ROOMS and ROOMS.index(target.room) > ROOMS.index(module.room):
            yield f"{module.name} imports {target.name}, a room below it"


def circles(house: House) -> Iterator[str]:
    """No file needs itself through others of its room."""
    graphs: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for module, target, _ in house.edges():
        if module.room == target.room:
            graphs[module.room][module.name].add(target.name)
    for graph in graphs.values():
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            yield "circle: " + " ← ".join(error.args[1])


def private_names(house: House) -> Iterator[str]:
    """A leading underscore keeps a name in its file, and a file in its room."""
    for module, target, name in house.edges():
        if name.startswith("_") and not name.startswith("__"):
            yield f"{module.name} takes {name} from {target.name}"
        if target.name.rpartition(".")[2].startswith("_") and module.room != target.room:
            yield f"{module.name} reaches into {target.name}"


def public_lists(house: House) -> Iterator[str]:
    """`__all__` stands in a room alone, and each room has one."""
    for module in house.modules.values():
        is_room = module.name == f"medlab.{module.room}"
        if module.public() is not None and module.room and not is_room:
            yield f"{module.name} has an __all__ beside its room's"
        if is_room and module.public() is None:
            yield f"{module.name} has no __all__"


def file_names(house: House) -> Iterator[str]:
    """No file is called as what it or its room holds, nor as a file elsewhere."""
    for module in house.modules.values():
        stem = module.path.stem
        inner = module.name.count(".") > 1
        if stem in module.defined():
            yield f"{module.name} holds a {stem}"
        elif inner and stem in house.public[module.room] and house.is_taken(module):
            yield f"{module.name} is called as the room's {stem}"
    inner = [module for module in house.modules.values() if not module.is_init]
    # A file of exercises has its topic's name, which may be a room's or a file's too
    topics = {m for m in inner if m.room == "exercises" and not m.path.stem.startswith("_")}
    files = Counter(module.path.stem for module in inner if module not in topics)
    folders = {m.path.parent.name for m in house.modules.values() if m.is_init and m.room}
    files += Counter(set(files) & folders)
    for name, count in files.items():
        if count > 1:
            yield f"{count} files or rooms are called {name}"


def used(house: House) -> Iterator[str]:
    """A public name is used by the course, or stands on the list of needs, and not on both."""
    mentioned: set[str] = set()
    for _, source in house.texts():
        for full in _mentions(source):
            parts = full.split(".")[1:]
            if parts and parts[0] in house.lent:
                parts = [house.lent[parts[0]], *parts]
            mentioned.add(".".join(parts[:2]))
    names = [f"{room}.{name}" for room in house.rooms for name in house.public[room]]
    for name in names:
        if name not in mentioned and name not in house.needs:
            yield f"nothing uses {name}"
    for name in house.needs:
        if name not in names:
            yield f"the list of needs has {name}, which is not there"
        elif name in mentioned:
            yield f"the list of needs has {name}, which the course uses"


def doors(house: House) -> Iterator[str]:
    """Notebooks, scripts and benchmarks enter a room by its door: never a file in it."""
    for place, source in house.texts():
        if place.startswith("medlab/"):
            continue
        for full in sorted(_mentions(source)):
            parts = full.split(".")
            for end in range(3, len(parts) + 1):
                inner = ".".join(parts[:end])
                room, name = parts[1], parts[end - 1]
                if inner in house.modules and name not in house.public.get(room, []):
                    yield f"{place} uses {inner}, a file in a room"


def lines(house: House) -> Iterator[str]:
    """The package without its exercises can be read in an evening."""
    total = sum(
        len(module.path.read_text(encoding="utf-8").splitlines())
        for module in house.modules.values()
        if module.room != "exercises"
    )
    if total > MAX_LINES:
        yield f"medlab without exercises has {total} lines, and at most {MAX_LINES} may be"


RULES = (order, circles, private_names, public_lists, file_names, used, doors, lines)


def complaints(house: House, rules: Iterable = RULES) -> list[str]:
    """What all rules say."""
    return [f"{rule.__name__}: {text}" for rule in rules for text in sorted(set(rule(house)))]
