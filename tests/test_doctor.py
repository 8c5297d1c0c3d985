"""The environment check and the command line around it."""

import importlib.metadata
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kdlab import __main__ as cli
from kdlab import doctor
from kdlab.errors import KdlabError


@pytest.fixture
def installed(monkeypatch):
    """Pretend that kdlab asks for `requires` and that other versions are installed."""

    def pretend(requires: list[str], versions: dict[str, str | None]):
        real = importlib.metadata.version

        def version(name):
            if versions.get(name, "") is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions.get(name) or real(name)

        monkeypatch.setattr(doctor.metadata, "requires", lambda name: requires)
        monkeypatch.setattr(doctor.metadata, "version", version)
        return {line.name: line for line in doctor.examine(quick=True)}

    return pretend


def test_everything_works_here(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_HOME", str(tmp_path / "new" / "store"))
    lines = doctor.examine()
    assert not doctor.failed(lines), doctor.report(lines)
    names = [line.name for line in lines]
    assert {"Python", "torch computes", "torchvision with torch", "data intact", "store", "GPU"} <= set(names)


def test_versions_are_held_against_their_ranges(installed):
    lines = installed(["torch>=2.9", "numpy>=2.0", "scipy"], {"torch": "2.1.0", "numpy": None})
    assert lines["torch"].ok is False and "2.1.0 (needs >=2.9)" in lines["torch"].found
    assert lines["numpy"].ok is False and "not installed" in lines["numpy"].found
    assert lines["scipy"].ok is True


def test_extras_are_not_required(installed):
    assert "pytest" not in installed(['pytest>=99; extra == "dev"'], {})


def test_a_failure_says_what_to_do(installed):
    lines = list(installed(["torch>=2.9"], {"torch": "2.1.0"}).values())
    report = doctor.report(lines).splitlines()
    row = next(i for i, text in enumerate(report) if text.startswith("FAIL  torch"))
    assert report[row + 1].strip().startswith("-> ") and "pip install" in report[row + 1]
    assert doctor.failed(lines)


def test_torchvision_that_does_not_fit_torch_is_found(monkeypatch):
    import torchvision

    def broken(*arguments):
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    line = next(line for line in doctor.examine() if line.name == "torchvision with torch")
    assert line.ok is False
    assert line.found == "RuntimeError: operator torchvision::nms does not exist"
    assert "torch torchvision" in line.remedy


def test_store_that_cannot_be_written_is_found(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("KDLAB_HOME", str(blocked / "store"))
    line = next(line for line in doctor.examine() if line.name == "store")
    assert line.ok is False and "KDLAB_HOME" in line.remedy


def test_full_disk_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_HOME", str(tmp_path))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000_000}))
    line = next(line for line in doctor.examine() if line.name == "store")
    assert line.ok is False and "1 MB left" in line.found


def test_missing_data_files_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_PACKAGE", tmp_path)
    line = next(line for line in doctor.examine(quick=True) if line.name == "data files")
    assert line.ok is False and "fashion.xz" in line.found


def test_exit_status_follows_the_table(installed, capsys):
    assert cli.main(["doctor", "--quick"]) == 0
    installed(["torch>=2.9"], {"torch": "2.1.0"})
    assert cli.main(["doctor", "--quick"]) == 1
    assert cli.main(["lab"]) == 1  # refuses to start, and shows the table
    assert capsys.readouterr().out.count("FAIL  torch") == 2


def test_without_a_command_the_help_is_printed(capsys):
    assert cli.main([]) == 2
    printed = capsys.readouterr().out
    assert printed.startswith("usage: python -m kdlab")
    for name, command in cli.COMMANDS.items():
        assert name in printed and command.help in printed


def test_quick_check_does_not_import_torch():
    code = "import sys\nfrom kdlab import doctor\ndoctor.examine(quick=True)\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lab_opens_the_folder_that_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    assert cli.notebooks_folder() == tmp_path / "notebooks"
    with pytest.raises(KdlabError, match="no folder nowhere"):
        cli.notebooks_folder(Path("nowhere"))


@pytest.mark.parametrize(("value", "served_only"), [("1", True), ("0", False), ("", False)])
def test_no_browser_by_environment(value, served_only, tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_NO_BROWSER", value)
    assert ("--no-browser" in cli.jupyter_command(tmp_path)) is served_only


def test_a_taken_port_is_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(KdlabError, match=f"Port {port} cannot be used"):
            cli.jupyter_command(tmp_path, port)
    with pytest.raises(KdlabError, match="is no port"):
        cli.jupyter_command(tmp_path, 70000)


def test_store_is_shown_and_cleared(tmp_path, monkeypatch, capsys):
    import torch

    from kdlab import store

    monkeypatch.setenv("KDLAB_HOME", str(tmp_path))
    store.save("one", {"weight": torch.ones(3)}, {})
    assert cli.main(["store"]) == 0
    assert store.usage()[0] == 1
    assert cli.main(["store", "clear"]) == 0
    assert store.usage()[0] == 0
    assert "1 records" in capsys.readouterr().out


def test_lab_settings_are_json():
    overrides = cli._JUPYTER / "labconfig" / "default_setting_overrides.json"
    assert json.loads(overrides.read_text())["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_an_unknown_scale_fails_with_what_to_set(monkeypatch):
    monkeypatch.setenv("KDLAB_SCALE", "FULL")
    (line,) = [line for line in doctor.examine(quick=True) if line.name == "scale"]
    assert line.ok is False and "one of smoke, laptop, full" in line.remedy
