"""The code of the user's behind a plug-in: which files, and their hashes, whatever the machine."""

import compileall
import sys

import pytest

from epsgrid import plugins
from epsgrid.errors import SpecError, UnknownNameError
from tests.user_code import NET, UserCode, user_code

__all__ = ["user_code"]


def test_what_is_imported_anywhere_is_found_without_running_it(user_code: UserCode) -> None:
    user_code.write("user_lab/__init__.py", "from .nets import net\n1 / 0\n")
    user_code.write(
        "user_lab/nets.py",
        """\
        import json, torch, numpy.linalg
        from epsgrid import models

        def build(options):
            from . import blocks
            from .deep.inner import thing
            import user_space.part as part
            __import__("user_lazy")
            importlib.import_module(".named", __package__)
            importlib.import_module("user_" + options.computed)
            try:
                import user_fast_and_absent
            except ImportError:
                pass
        """,
    )
    for name in ("blocks", "deep/__init__", "deep/inner", "named", "unused"):
        user_code.write(f"user_lab/{name}.py", "import user_lab.nets\n")
    user_code.write("user_space/part.py", "pattern = '\\d'\n")  # a folder without __init__, and a text that warns
    user_code.write("user_lazy.py", "this is no Python: its importer will hear\n")
    assert sorted(plugins.sources("user_lab.nets:net", "adam", "mlp")) == [
        "user_lab/__init__.py",
        "user_lab/blocks.py",
        "user_lab/deep/__init__.py",
        "user_lab/deep/inner.py",
        "user_lab/named.py",
        "user_lab/nets.py",
        "user_lazy.py",
        "user_space/part.py",
    ]
    assert not any(name.startswith("user_") for name in sys.modules)


def test_plugins_of_ours_have_no_code_of_the_users(user_code: UserCode) -> None:
    assert plugins.sources("digits", "mlp", "adam", "epsgrid.models.mlp:build") == {}
    assert plugins.sources("user_nowhere:net") == {}


def test_of_an_installed_plugin_its_own_package_counts(tmp_path, monkeypatch) -> None:
    code = UserCode(tmp_path / "site-packages", monkeypatch)
    code.write("user_bought/__init__.py", "from user_bought import layers\nimport user_other\n")
    code.write("user_bought/layers.py", "")
    code.write("user_other.py", "")
    assert sorted(plugins.sources("user_bought:net")) == ["user_bought/__init__.py", "user_bought/layers.py"]


def test_hashes_depend_on_the_text_alone(user_code: UserCode, tmp_path, monkeypatch) -> None:
    before = plugins.sources("user_net:net")
    compileall.compile_dir(user_code.folder, quiet=1)
    assert plugins.sources("user_net:net") == before
    path = user_code.folder / "user_net.py"
    for end in (b"\r\n", b"\r"):
        path.write_bytes(NET.encode().replace(b"\n", end))
        assert plugins.sources("user_net:net") == before
    user_code.folder.rename(tmp_path / "moved")
    monkeypatch.syspath_prepend(tmp_path / "moved")
    (tmp_path / "moved/user_net.py").write_text(NET)
    assert plugins.sources("user_net:net") == before
    (tmp_path / "moved/user_blocks.py").write_text("from torch.nn import Tanh as activation\n")
    after = plugins.sources("user_net:net")
    assert after["user_net.py"] == before["user_net.py"] and after["user_blocks.py"] != before["user_blocks.py"]


def test_a_file_that_was_changed_after_its_import_is_not_what_runs(user_code: UserCode) -> None:
    plugins.load("models", "user_net:net")
    planned = plugins.sources("user_net:net")
    plugins.check_imports(planned, "user_net:net")
    with (user_code.folder / "user_blocks.py").open("a") as file:
        file.write("# not imported yet\n")
    changed = plugins.sources("user_net:net")
    assert changed != planned
    plugins.check_imports(planned, "user_net:net")
    import user_blocks  # noqa: F401

    with pytest.raises(SpecError, match=r"user_blocks\.py was changed while it was in use"):
        plugins.check_imports(planned, "user_net:net")
    plugins.check_imports(changed, "user_net:net")
    with (user_code.folder / "user_net.py").open("a") as file:
        file.write("# imported already\n")
    plugins.check_imports(changed, "user_net:net")  # what runs is what was planned
    with pytest.raises(SpecError, match=r"user_net\.py was changed while it was in use"):
        plugins.check_imports(plugins.sources("user_net:net"), "user_net:net")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x = 1\ny = x / 0\n", r"ZeroDivisionError.*user_blocks\.py, line 2, in <module>"),
        ("x = \n", r"SyntaxError.*user_blocks\.py, line 1"),
        ("import user_absent\n", r"No module named 'user_absent'.*user_blocks\.py, line 1, in <module>"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_line(user_code: UserCode, text: str, place: str) -> None:
    user_code.write("user_blocks.py", text)
    user_code.write("user_net.py", "import user_blocks\n" + NET)
    with pytest.raises(UnknownNameError, match=place):
        plugins.load("models", "user_net:net")
