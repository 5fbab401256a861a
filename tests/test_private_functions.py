"""No function or class that only its module can call is left without a caller."""

import ast
from pathlib import Path

import pytest

import eqv2_plugin

ROOT = Path(eqv2_plugin.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))


def _idle(source: str) -> set[str]:
    """Private functions and classes of a module that nothing in it names but themselves."""
    tree = ast.parse(source)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    private = {
        node.name: node
        for node in tree.body
        if isinstance(node, kinds)
        and node.name.startswith("_")
        and node.name.strip("_")
        and not node.name.startswith("__")
        # A decorator may register it.
        and not node.decorator_list
    }
    for name, own in private.copy().items():
        within = set(map(id, ast.walk(own)))
        for node in ast.walk(tree):
            named = (isinstance(node, ast.Name) and node.id == name) or (
                isinstance(node, ast.Constant) and node.value == name
            )
            if named and id(node) not in within:
                del private[name]
                break
    return set(private)


def test_an_idle_function_is_seen():
    assert _idle("def _a(): return _a()\ndef _b(): pass\ndef c(): return _b()") == {"_a"}


@pytest.mark.parametrize("package", sorted({path.parent for path in MODULES}), ids=lambda p: p.name)
def test_every_private_function_is_called(package):
    others = [path.read_text() for path in MODULES]
    for path in package.glob("*.py"):
        idle = _idle(path.read_text())
        # Another module of the room may import it.
        assert not {n for n in idle if not any(f"import {n}" in text for text in others)}, path
