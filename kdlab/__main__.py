"""``python -m kdlab doctor|lab|store|classroom|progress``: what is run outside a notebook."""

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from kdlab import doctor
from kdlab.errors import KdlabError

_JUPYTER = Path(__file__).parent / "jupyter"


class Command(NamedTuple):
    """A subcommand: its help, what it adds to its parser, and what it does (returning the exit status)."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="only versions and files, without importing torch")


def _doctor(options: argparse.Namespace) -> int:
    lines = doctor.examine(options.quick)
    print(doctor.report(lines))
    return int(doctor.failed(lines))


def _lab_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, help="folder to open (default: the course's notebooks/)")
    parser.add_argument("--port", type=int, help="port to serve on (default: the first free one from 8888)")
    parser.add_argument("--no-browser", action="store_true", help="only serve; the same as KDLAB_NO_BROWSER=1")


def _lab(options: argparse.Namespace) -> int:
    lines = doctor.examine(quick=True)
    if doctor.failed(lines):
        print(doctor.report(lines))
        return 1
    command = jupyter_command(notebooks_folder(options.folder), options.port, options.no_browser)
    paths = [str(_JUPYTER), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    environment = {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}
    sys.stdout.flush()
    if os.name == "posix":  # one process, so that whoever stops this one stops the server
        os.execve(command[0], command, environment)
    return subprocess.call(command, env=environment)


def notebooks_folder(named: Path | None = None) -> Path:
    """Return the folder to open: the named one, else notebooks/ here, else beside the package.

    Raises
    ------
    KdlabError
        If there is none.
    """
    candidates = [named] if named else [Path("notebooks"), Path(__file__).parents[1] / "notebooks"]
    for folder in candidates:
        if folder.is_dir():
            return folder.resolve()
    places = " or ".join(str(folder) for folder in candidates)
    raise KdlabError(
        f"There is no folder {places}. Go to the course's folder first, or name one: python -m kdlab lab FOLDER"
    )


def jupyter_command(folder: Path, port: int | None = None, no_browser: bool = False) -> list[str]:
    """Return the command line that serves `folder`.

    Raises
    ------
    KdlabError
        If the port is taken or no port.
    """
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"]
    command.append("--LabApp.extension_manager=readonly")  # the other one asks PyPI
    if port is not None:
        _check_port(port)
        command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if no_browser or os.environ.get("KDLAB_NO_BROWSER", "0") not in ("", "0"):
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container, where the server would refuse to start
        command.append("--allow-root")
    return command


def _check_port(port: int) -> None:
    if not 0 < port < 65536:
        raise KdlabError(f"{port} is no port; expected 1 to 65535.")
    with socket.socket() as probe:
        if os.name == "posix":  # a port that was closed a moment ago is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = error.strerror or "it is taken"
            raise KdlabError(f"Port {port} cannot be used ({reason}). Name another, or leave --port out.") from None


def _store_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("show", "clear"), default="show")


def _store(options: argparse.Namespace) -> int:
    from kdlab import store

    count, size = store.usage()
    print(f"{store.home()}: {count} records, {size / 1e6:.1f} MB")
    if options.action == "clear":
        print(f"deleted {store.clear()} records")
    return 0


def _classroom_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a new folder, or a course laid out before")


def _classroom(options: argparse.Namespace) -> int:
    from kdlab.classroom import layout

    print(layout.report(options.folder, layout.lay_out(options.folder)))
    return 0


def _progress_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebooks", nargs="+", type=Path, help="notebooks, or folders of notebooks")
    parser.add_argument("--why", action="store_true", help="also say what is wrong with what fails")


def _progress(options: argparse.Namespace) -> int:
    from kdlab.classroom import progress

    failures = 0
    for path in progress.notebooks(options.notebooks):
        try:
            print(progress.report(path, progress.rows(path), options.why), flush=True)
        except KdlabError as error:
            failures += 1
            print(error, file=sys.stderr)
    return int(failures > 0)


COMMANDS = {
    "doctor": Command("check that everything the course needs works", _doctor_arguments, _doctor),
    "lab": Command("open JupyterLab on the notebooks", _lab_arguments, _lab),
    "store": Command("show or clear the trained models kept on disk", _store_arguments, _store),
    "classroom": Command("lay the course out for nbgrader", _classroom_arguments, _classroom),
    "progress": Command("say which exercises of notebooks pass", _progress_arguments, _progress),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kdlab")
    subparsers = parser.add_subparsers(dest="command", metavar="|".join(COMMANDS))
    for name, command in COMMANDS.items():
        command.arguments(subparsers.add_parser(name, help=command.help, description=command.help))
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        return COMMANDS[options.command].run(options)
    except KdlabError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
