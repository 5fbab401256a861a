"""Rooms of the package import in one direction only."""

import ast
from pathlib import Path

import eqv2_plugin

ROOT = Path(eqv2_plugin.__file__).parent
# A room may import those before it.
ORDER = (
    "version",
    "earlier_paths",
    "common",
    "unpickling",
    "geometry",
    "kernels",
    "layers",
    "graphs",
    "backbones",
    "heads",
    "data",
    "models",
    "checkpoints",
    "dens",
    "registered",
    "inference",
    "training",
    "configs",
    "tasks",
    "doctor",
    "cli",
)


# Circles that are still to be opened.
CIRCLES: set[frozenset[str]] = set()


def _arrows() -> dict[tuple[str, str], set[str]]:
    """{(room, imported room): modules that do it}, of all imports, also those in functions."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        inside = path.relative_to(ROOT).with_suffix("")
        room = inside.parts[0] if inside.name != "__init__" or len(inside.parts) > 1 else ""
        if room == "":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} imports relatively"
                names = [node.module or ""]
                if node.module == "eqv2_plugin":
                    names = [f"eqv2_plugin.{alias.name}" for alias in node.names]
            for name in names:
                package, _, rest = name.partition(".")
                other = rest.partition(".")[0]
                if package == "eqv2_plugin" and other != room:
                    found.setdefault((room, other), set()).add(str(inside))
    return found


def test_every_room_has_its_place():
    rooms = {p.stem for p in ROOT.iterdir() if (p / "__init__.py").exists() or p.suffix == ".py"}
    assert rooms - {"__init__"} == set(ORDER)


def test_imports_go_one_way():
    against = {
        arrow: modules
        for arrow, modules in _arrows().items()
        if arrow[1] == "" or ORDER.index(arrow[1]) > ORDER.index(arrow[0])
    }
    assert not against, against


def test_modules_of_a_room_do_not_import_each_other_in_a_circle():
    imports: dict[str, set[str]] = {}
    names = {".".join(p.relative_to(ROOT.parent).with_suffix("").parts) for p in ROOT.rglob("*.py")}
    for path in ROOT.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = node.module
                found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        imports[name] = (found & names) - {name}
    done: set[str] = set()
    circles: set[frozenset[str]] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            circle = way[way.index(name) :]
            circles.add(frozenset(one.removeprefix("eqv2_plugin.") for one in circle))
        elif name not in done:
            for other in sorted(imports[name]):
                walk(other, (*way, name))
            done.add(name)

    for name in sorted(imports):
        walk(name, ())
    assert circles == CIRCLES
