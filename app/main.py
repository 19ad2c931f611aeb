"""Starts the workbench: `python -m app.main [--host --port --workspace]`."""

from __future__ import annotations

import argparse
import hmac
import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.workspaces import default_workspace
from engines.errors import ConfigError, PromptloupeError
from engines.store import Workspace

if TYPE_CHECKING:
    import gradio as gr

PASSWORD = "PROMPTLOUPE_PASSWORD"
LARGEST_UPLOAD = "20gb"
QUEUE_LOOK = 0.01
"""Seconds between Gradio's looks at its queue; its own millisecond keeps an idle machine awake."""


def prepare_environment(workspace: Path) -> None:
    """Settle what Gradio and the model libraries read when they are imported: no analytics, no downloads, no proxy
    between this program and itself, temporary files inside the workspace."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_SHARE"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(workspace / "media" / "uploads")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if not os.environ.get("PROMPTLOUPE_ONLINE"):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for name in ("NO_PROXY", "no_proxy"):
        listed = os.environ.get(name, "")
        wanted = [
            *filter(None, listed.split(",")),
            *(host for host in ("127.0.0.1", "localhost") if host not in listed),
        ]
        os.environ[name] = ",".join(wanted)


def build(workspace: str | Path | Workspace) -> gr.Blocks:
    """The workbench on a workspace (made where it does not exist); imports Gradio."""
    opened = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    prepare_environment(opened.path)
    from app.shell import build_shell

    return build_shell(opened)


def launch(
    demo: gr.Blocks, workspace: Workspace, host: str = "127.0.0.1", port: int | None = None, password: str = ""
) -> str:
    """Serve the workbench in the background and return its address.

    Raises:
        ConfigError: the address is open to other computers without a password, or the port is taken.
    """
    if not is_loopback(host) and not password:
        raise ConfigError(
            f"The address {host} lets other computers in, so the workbench needs a password.",
            f"Set the variable {PASSWORD}, or use the address 127.0.0.1.",
        )
    import gradio as gr

    from app.theme import SCRIPTS, STATIC, theme
    from engines.data.display import display_folder
    from engines.enhance.choices import enhancers_folder
    from engines.enhance.groups import groups_folder

    gr.set_static_paths([str(workspace.folder("thumbnails")), str(display_folder(workspace))])
    pictures = groups_folder(workspace), enhancers_folder(workspace)
    demo.queue(default_concurrency_limit=8)
    demo._queue.sleep_when_free = QUEUE_LOOK
    options: dict[str, Any] = {"auth": lambda _, word: hmac.compare_digest(word.encode(), password.encode())}
    try:
        _, url, _ = demo.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            run_history=False,
            enable_monitoring=False,
            strict_cors=True,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            footer_links=["settings"],
            allowed_paths=[str(workspace.folder("exports")), *map(str, pictures)],
            blocked_paths=[str(workspace.path / "workspace.db"), str(workspace.path / "engine.json")],
            max_file_size=LARGEST_UPLOAD,
            favicon_path=STATIC / "favicon.svg",
            theme=theme(),
            css_paths=sorted(STATIC.glob("*.css")),
            head="".join(f"<script>{script.read_text(encoding='utf-8')}</script>" for script in SCRIPTS),
            **(options if password else {}),
        )
    except OSError as error:
        raise ConfigError(
            f"Port {port} cannot be used: it is taken.", "Choose another one with --port.", str(error)
        ) from error
    return str(url)


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def wake_engine(workspace: Workspace) -> threading.Thread:
    """Start the background workers, and on a new workspace what a first start shows. Does not wait for them."""
    from app import first_start

    def begin() -> None:
        try:
            first_start.prepare(workspace)
        except PromptloupeError as error:
            print(f"Work in the background could not be started. {error}", file=sys.stderr, flush=True)

    waking = threading.Thread(target=begin, name="wake-engine", daemon=True)
    waking.start()
    return waking


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the workbench until Ctrl+C; returns the exit code."""
    parser = argparse.ArgumentParser(prog="promptloupe-workbench", description="The Promptloupe workbench.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this computer only)")
    parser.add_argument("--port", type=int, default=7860, help="port (7860)")
    parser.add_argument("--workspace", metavar="FOLDER", help="workspace to open, made where there is none")
    options = parser.parse_args(arguments)
    try:
        workspace = Workspace.open(options.workspace or default_workspace())
        demo = build(workspace)
        launch(demo, workspace, options.host, options.port, os.environ.get(PASSWORD, ""))
    except PromptloupeError as error:
        print(error, file=sys.stderr)
        return 1
    wake_engine(workspace)
    shown = (
        f"http://127.0.0.1:{options.port}/"
        if is_loopback(options.host)
        else f"http://{socket.gethostname()}:{options.port}/"
    )
    print(f"Promptloupe is ready: {shown}\nWorkspace: {workspace.path}", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nThe workbench stops. Jobs that were started go on in the background.", flush=True)
    demo.close(verbose=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
