"""Prepare and start Promptloupe: `python launch.py`, `python launch.py test` or `python launch.py COMMAND`.

This file uses the standard library only, and no syntax newer than Python 3.8's, so that a person with an unsuitable
Python reads a sentence and not a traceback. Everything is installed in `.venv` beside this file. An environment cannot
be moved once made, so it is made in place, and the stamp in it says how far that got: "making" from the first change
on, "ready" only after the smoke test. With a ready stamp that fits, nothing is installed and no network is used.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST, NEWEST = (3, 11), (3, 14)
VENV, PIP = ("-m", "venv"), ("-m", "pip")
EXTRAS = ("medical", "samples", "postgres")
# Two processes: one drives the browser, which the other one's tests leave time enough, and helps out when it is done.
WHOLE_SUITE = ["-n", "2", "--dist", "loadscope", "--no-loadscope-reorder"]
MODULES = ["torch", "torchvision", "open_clip", "diffusers", "gradio", "sqlalchemy", "distributed", "app", "engines"]
SMOKE_TEST = "import torch, torchvision, open_clip, gradio, sqlalchemy; assert (torch.eye(2) @ torch.eye(2)).sum() == 2"
# On Linux the torch wheels bring NVIDIA's libraries with them; elsewhere they are far smaller.
DOWNLOAD_GB, DISK_GB = (3.3, 11) if sys.platform.startswith("linux") else (0.8, 4)
PROBE = """
import importlib.util, json, pathlib, sys, sysconfig
def missing(name):
    spec = importlib.util.find_spec(name)
    return spec is None or spec.origin is None
folders = pathlib.Path(sysconfig.get_path("purelib")).glob("*.dist-info")
packages = sorted(folder.name.split("-")[0] for folder in folders if (folder / "RECORD").exists())
print(json.dumps([sys.version_info[:2], packages, list(filter(missing, sys.argv[1:]))]))
"""
OWN_FOLDER = "Promptloupe may not write in its folder: copy it to a folder of your own and start it there."
FAILURES = {
    r"No space left|Errno 28\b|WinError 112|not enough space": f"The disk is full: free about {DISK_GB} GB where"
    " Promptloupe lies and start again.",
    r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError": "The secure connection to the package index was"
    " refused, as behind some company proxies: set PIP_CERT to your organisation's certificate file and start again.",
    r"ProxyError|Tunnel connection failed|Proxy Authentication": "The proxy named in HTTPS_PROXY did not let the"
    " download through: correct that variable and start again.",
    r"Read-only file system|Permission denied|Errno (13|30)\b|WinError 5\b": OWN_FOLDER,
    r"NewConnectionError|NameResolutionError|name resolution|getaddrinfo failed|Network is unreachable|timed out"
    r"|Connection (refused|reset|aborted|broken)|IncompleteRead|Max retries|ConnectionError": "The package index cannot"
    f" be reached: the first start needs the internet (about {DOWNLOAD_GB} GB), later ones do not. Check the connection"
    " and start again; what was downloaded is kept.",
    r"No matching distribution|Could not find a version": "A package that Promptloupe needs does not exist for this"
    " computer: use a 64-bit Python 3.11 to 3.14 on Linux, Windows or a Mac with Apple silicon.",
}


class LaunchError(Exception):
    """Something that a person can put right, said in a sentence or two."""


class Progress:
    """Turns pip's many lines into one that changes on a terminal, and into a few elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started, self.packages, self.text = folder, time.monotonic(), 0, "looking up packages"
        self.free, self.live, self.over = 0, sys.stdout.isatty(), threading.Event()
        self.ticker = threading.Thread(target=self._tick, daemon=True)
        self.ticker.start()

    def read(self, line: str) -> None:
        fetched = re.match(r"\s*Downloading ([\w.]+)-\S+\.(?:whl|tar\.gz) \((.+)\)", line)
        part = re.match(r"Progress (\d+) of (\d+)", line)
        if line.startswith(("Collecting", "Processing", "Requirement already")):
            self.packages += 1
            self.text = f"looking up packages, {self.packages} so far"
        elif fetched:
            self.text = "downloading {} ({})".format(*fetched.groups())
            if re.match(r"\d\d+\.\d MB", fetched[2]):
                self.show()
        elif part:
            self.text = re.sub(r"( \d+%)?$", f" {100 * int(part[1]) // max(1, int(part[2]))}%", self.text, count=1)
        elif line.startswith("Installing collected"):
            self.free = shutil.disk_usage(self.folder).free
            self.text = f"unpacking {line.count(',') + 1} package(s)"

    def show(self) -> None:
        used = max(0, self.free - shutil.disk_usage(self.folder).free) / 1e9
        line = f"      {clock(self.started)}  {self.text}" + (f", {used:.1f} GB" if self.free else "")
        width = shutil.get_terminal_size().columns - 1
        print("\r" + line[:width].ljust(width) if self.live else line, end="" if self.live else "\n", flush=True)

    def close(self) -> None:
        self.over.set()
        self.ticker.join()
        print("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r" if self.live else "", end="", flush=True)

    def _tick(self) -> None:
        while not self.over.wait(0.5 if self.live else 20):
            self.show()


class Environment:
    """The virtual environment of one copy of Promptloupe: what state it is in, and how it gets into a good one."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.constraints = root, root / ".venv", root / "constraints.txt"
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        unwanted = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX")
        self.variables = {name: value for name, value in os.environ.items() if name not in unwanted}
        self.variables["PIP_USER"] = "0"

    def stamp(self) -> dict:
        try:
            return json.loads((self.folder / "promptloupe.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def write_stamp(self, **content: object) -> None:
        (self.folder / "promptloupe.json").write_text(json.dumps(content, indent=1), "utf-8")

    def fingerprint(self) -> str:
        """Hash of all that decides what must be installed, and of the place, which an environment is bound to."""
        import tomllib  # unknown to the Pythons that get a sentence instead

        project = tomllib.loads((self.root / "pyproject.toml").read_text("utf-8"))["project"]
        content = [project, self.constraints.read_text("utf-8"), sys.platform, str(self.root)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def probe(self) -> tuple[list, list, list] | None:
        """(Python version, installed packages, missing modules), or None where the interpreter does not run."""
        try:
            command = [str(self.python), "-I", "-c", PROBE, *MODULES]
            return tuple(json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout))
        except (OSError, ValueError, subprocess.SubprocessError):
            return None

    def diagnose(self, extras: set[str]) -> tuple[str, str]:
        """What must be done ("", "update" or "make") and why."""
        stamp, probe = self.stamp(), self.probe()
        if not self.folder.exists():
            return "make", "This is the first start: everything that Promptloupe needs is installed once."
        if stamp and stamp.get("state") != "ready":
            return "make", "The last installation was not finished, so it is done again."
        if probe is None or not OLDEST <= tuple(probe[0]) <= NEWEST:
            return "make", "The environment's Python is gone or unsuitable, so the environment is made again."
        if not stamp:
            return "update", "The environment in .venv was made by hand: what is missing in it is added."
        damaged = sorted({*stamp["packages"]} - {*probe[1]}) + probe[2]
        if damaged:
            return "make", f"The environment is damaged ({', '.join(damaged[:5])}), so it is made again."
        if stamp["fingerprint"] != self.fingerprint():
            return "update", "Promptloupe's requirements have changed, so its packages are brought up to date."
        new = sorted(extras - {*stamp["extras"]})
        return ("update", f"The packages for '{', '.join(new)}' are added.") if new else ("", "")

    def prepare(self, extras: set[str], reinstall: bool = False) -> None:
        """Make the environment fit for use; quick and offline where it is already."""
        if not reinstall and not self.diagnose(extras)[0]:
            return
        with only_one(self.root / ".venv.lock") as self.lock:
            task, reason = ("make", "Everything is reinstalled, as you asked.") if reinstall else self.diagnose(extras)
            if not task:  # another launch has done it in the meantime
                return
            print(reason)
            started, extras = time.monotonic(), extras | {*self.stamp().get("extras", [])}
            self.step, self.steps = 0, 4 if task == "make" else 3
            self._make(extras, reinstall) if task == "make" else self._install(extras)
            print(f"Ready after {clock(started)} minutes; the next start needs none of this.\n")

    def _make(self, extras: set[str], keep: bool) -> None:
        """Make the environment anew; the present one is kept aside meanwhile, and put back if this fails."""
        aside = self.root / ".venv.old"
        shutil.rmtree(aside, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(aside)
        if not keep:
            shutil.rmtree(aside, ignore_errors=True)
        try:
            free = shutil.disk_usage(self.root).free / 1e9
            if free < DISK_GB:
                raise LaunchError(f"The packages need about {DISK_GB} GB of disk, and only {free:.1f} GB are free.")
            self._say("Making the environment .venv with Python {}.{}.{}".format(*sys.version_info))
            self.folder.mkdir()
            self.write_stamp(state="making", extras=sorted(extras))
            interpreter = getattr(sys, "_base_executable", None) or sys.executable
            made = subprocess.run([interpreter, *VENV, str(self.folder)], capture_output=True, text=True)
            if made.returncode:
                hint = f" Install the package python3.{sys.version_info[1]}-venv." if "ensurepip" in made.stdout else ""
                last = (made.stdout + made.stderr).strip().splitlines()[-1:] or ["no reason given"]
                raise LaunchError(f"Python could not make a virtual environment ({last[0]}).{hint}")
            self._install(extras)
        except BaseException:
            if aside.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                aside.rename(self.folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)

    def _install(self, extras: set[str]) -> None:
        self._say("Bringing the installer, pip, up to date")
        self._pip(["pip"])
        size = f" (about {DOWNLOAD_GB} GB to download, {DISK_GB} GB of disk)" if self.steps == 4 else ""
        self._say(f"Installing Promptloupe and the packages it needs{size}")
        self._pip(["--progress-bar", "raw", "-e", f".[{','.join(sorted(extras))}]" if extras else "."])
        self._say("Checking that everything starts")
        smoke = subprocess.run([str(self.python), "-I", "-c", SMOKE_TEST], capture_output=True, text=True)
        probe = self.probe()
        if smoke.returncode or probe is None or probe[2]:
            reason = smoke.stderr.strip().splitlines()[-1:] or ["packages are missing"]
            raise LaunchError(f"The installed packages do not work on this computer: {reason[0]}")
        self.write_stamp(state="ready", fingerprint=self.fingerprint(), extras=sorted(extras), packages=probe[1])

    def _say(self, text: str) -> None:
        self.step += 1
        print(f"[{self.step}/{self.steps}] {text}", flush=True)

    def _pip(self, wanted: list[str]) -> None:
        """Run pip. The stamp turns to "making" when pip begins to change things: a failed download costs nothing."""
        temporary, log = self.folder / "tmp", self.root / ".venv.log"  # not every /tmp holds 3 GB of wheels
        temporary.mkdir(exist_ok=True)
        extras = self.stamp().get("extras", [])
        variables = {**self.variables, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))}
        options = ["--retries", "2", "--disable-pip-version-check", "--no-input", "--constraint", str(self.constraints)]
        command = [str(self.python), *PIP, "install", *options, *wanted]
        # pip holds the lock too: should this process be killed, nothing is installed beside a pip that goes on.
        held = {"pass_fds": (self.lock.fileno(),)} if os.name != "nt" else {}
        with open(log, "w", encoding="utf-8") as record, subprocess.Popen(
            command, cwd=self.root, env=variables, text=True, encoding="utf-8", errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **held,
        ) as pip:  # fmt: skip
            progress = Progress(self.folder)
            try:
                for line in pip.stdout:
                    if line.startswith("Installing collected"):
                        self.write_stamp(state="making", extras=extras)
                    if not line.startswith("Progress "):
                        record.write(line)
                    progress.read(line)
            finally:
                progress.close()
        shutil.rmtree(temporary, ignore_errors=True)
        if pip.returncode:
            raise LaunchError(f"{explain(log.read_text('utf-8'))} (pip's own words are in {log.name}.)")


def explain(output: str) -> str:
    """The sentence for what pip, or the operating system, said."""
    for pattern, sentence in FAILURES.items():
        if re.search(pattern, output, re.IGNORECASE):
            return sentence
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")] or ["ERROR: no reason was given"]
    return f"The packages could not be installed: {errors[-1][7:]}."


def clock(started: float) -> str:
    """Minutes and seconds since `started`."""
    return "{}:{:02d}".format(*divmod(int(time.monotonic() - started), 60))


@contextlib.contextmanager
def only_one(path: Path):
    """Hold the lock file while installing, so that two launches never install into the same folder."""
    with open(path, "a+") as handle:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LaunchError("Another launch.py is installing here: start again when it is done.") from None
        yield handle


def check_port(host: str, port: int) -> None:
    """Raise LaunchError where the port cannot be listened on."""
    other = "--port 7861" if port != 7861 else "--port 7862"
    unusable = LaunchError(f"Port {port} cannot be used: give one from 1024 to 65535, such as {other}.")
    if not 0 < port < 65536:
        raise unusable
    with socket.socket() as probe:
        if os.name != "nt":  # a port that was closed a moment ago is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            raise unusable from None
        except OSError:
            raise LaunchError(
                f"Port {port} is taken, perhaps by a Promptloupe that runs already: look at http://127.0.0.1:{port},"
                f" or start with {other}."
            ) from None


def run(environment: Environment, *command: str, cwd: Path | None = None, **variables: str) -> tuple[int, bool]:
    """Run the environment's Python to its end; (exit code, whether Ctrl+C, which it gets as well, was pressed)."""
    child = subprocess.Popen([environment.python, *command], env={**environment.variables, **variables}, cwd=cwd)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    presses = 0
    while True:
        try:
            code = child.wait()
            return 128 - code if code < 0 else code, presses > 0
        except KeyboardInterrupt:
            presses += 1
            if presses > 2:
                child.kill()


def serve(environment: Environment, options: argparse.Namespace) -> int:
    host = "0.0.0.0" if options.listen else "127.0.0.1"
    password = options.password or os.environ.get("PROMPTLOUPE_PASSWORD", "")
    if options.listen and not password:
        raise LaunchError("--listen lets other computers in, so set PROMPTLOUPE_PASSWORD or add --password first.")
    check_port(host, options.port)
    environment.prepare({*options.extra}, options.reinstall)
    print(f"Starting Promptloupe on http://127.0.0.1:{options.port} (Ctrl+C stops it)", flush=True)
    command = ["-P", "-m", "app.main", "--host", host, "--port", str(options.port)]
    command += ["--workspace", options.workspace] if options.workspace else []
    code, stopped = run(environment, *command, PROMPTLOUPE_PASSWORD=password)
    if stopped:
        print("\nPromptloupe has stopped; `python launch.py jobs` shows the jobs that go on in the background.")
    return 0 if stopped else code


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python launch.py",
        description="Install Promptloupe beside this file where needed, and start the workbench.",
        epilog="`python launch.py test [pytest arguments]` runs the tests; `python launch.py COMMAND` runs a command of"
        " Promptloupe, such as `python launch.py doctor` or `python launch.py train --help`.",
    )
    parser.add_argument("--port", type=int, default=7860, help="port of the workbench (7860)")
    parser.add_argument("--listen", action="store_true", help="let other computers in; needs a password")
    parser.add_argument("--password", default="", help="password of the workbench (better: PROMPTLOUPE_PASSWORD)")
    parser.add_argument("--workspace", metavar="FOLDER", help="workspace to open, made where there is none")
    parser.add_argument("--extra", action="append", default=[], choices=EXTRAS, help="install this as well")
    parser.add_argument("--reinstall", action="store_true", help="make the environment anew")
    return parser.parse_args(arguments)


def test(environment: Environment, arguments: list[str]) -> int:
    environment.prepare({"test"})
    run(environment, "-m", "app.chromium", cwd=environment.root)
    return run(environment, "-m", "pytest", *(arguments or WHOLE_SUITE), cwd=environment.root)[0]


def start(environment: Environment, arguments: list[str]) -> int:
    if arguments[:1] == ["test"]:
        return test(environment, arguments[1:])
    if arguments and not arguments[0].startswith("-"):
        environment.prepare(set())
        return run(environment, "-P", "-m", "app.cli", *arguments)[0]
    return serve(environment, parse(arguments))


def main(arguments: list[str]) -> int:
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        version = "{}.{}".format(*sys.version_info)
        print(f"Promptloupe needs Python 3.11 to 3.14, and this is Python {version}: start it with another one, for"
              " example `python3.11 launch.py`.", file=sys.stderr)  # fmt: skip
        return 1
    try:
        return start(Environment(ROOT), arguments)
    except KeyboardInterrupt:
        print("\nStopped. Start again to go on; what was downloaded is kept.", file=sys.stderr)
        return 130
    except LaunchError as error:
        print(f"\n{error}", file=sys.stderr)
    except OSError as error:
        print(f"\n{explain(f'ERROR: {error}')}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
