"""The frame around every page: navigation on the left, the top bar, the job drawer, one clock."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

import app.pages
from app.components import jobs as job_views
from app.components.html import Html, join, tag
from app.components.icons import icon
from app.components.live import live_html, pressed
from app.context import AppContext, Page
from engines import jobs
from engines.store import Workspace
from engines.store.browse import jobs_page

TITLE = "Promptloupe"
KEYS = {"?": "Show this list", "J": "Open and close the jobs", "Esc": "Close what is open"}


@dataclass(frozen=True)
class FoundPage:
    page: Page
    build: Callable[[AppContext], None]


def find_pages() -> list[FoundPage]:
    """Every page in `app/pages/`, in the order of its number."""
    found = []
    for module_info in pkgutil.iter_modules(app.pages.__path__):
        module = importlib.import_module(f"{app.pages.__name__}.{module_info.name}")
        if isinstance(getattr(module, "PAGE", None), Page):
            found.append(FoundPage(module.PAGE, module.build))
    return sorted(found, key=lambda each: each.page.order)


def build_shell(workspace: Workspace) -> gr.Blocks:
    """All pages of the workbench on `workspace`."""
    found = find_pages()
    pages = [each.page for each in found]
    with gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        _frame(workspace, demo, found[0], pages)
    for each in found[1:]:
        with demo.route(each.page.title, each.page.route) as route:
            _frame(workspace, route, each, pages)
    return demo


def _frame(workspace: Workspace, blocks: gr.Blocks, found: FoundPage, pages: Sequence[Page]) -> None:
    gr.HTML(_navigation(found.page, pages), elem_id="pl-nav", apply_default_css=False)
    gr.HTML(_top_bar(workspace, found.page), elem_id="pl-top", apply_default_css=False)
    status = live_html(elem_id="pl-status")
    drawer = live_html(elem_id="pl-drawer")
    timer = gr.Timer(1.0)
    context = AppContext(workspace, blocks, timer, frozenset(page.route for page in pages))
    with gr.Column(elem_id="pl-main"):
        found.build(context)

    def look() -> tuple[Html, Html]:
        return _look(workspace)

    def act(event: gr.EventData) -> tuple[Html, Html]:
        job_views.act_on_job(workspace, *pressed(event))
        return _look(workspace)

    context.on_load(look, outputs=[status, drawer])
    context.hold_until_loaded()
    context.on_tick(look, outputs=[status, drawer])
    context.listen(drawer.action, act, outputs=[status, drawer], every=True)


def _look(workspace: Workspace) -> tuple[Html, Html]:
    engine = jobs.engine_status(workspace)
    active = jobs.active(workspace)
    ended = jobs_page(workspace, "finished", limit=3)
    device = job_views.device(engine.workers) if engine.running else "starting …"
    status = join(
        [tag("span", "Computes on ", tag("strong", device), class_="pl-device"), job_views.pill(active, engine.running)]
    )
    return status, job_views.drawer(active[:30], ended)


def _navigation(current: Page, pages: Sequence[Page]) -> Html:
    links = [
        tag(
            "a",
            icon(page.icon or page.route or "start"),
            tag("span", page.title),
            href=page.route or "./",
            title=page.title,
            aria_current="page" if page is current else None,
        )
        for page in pages
    ]
    name = tag("a", icon("loupe", 24), tag("span", TITLE), href="./", class_="pl-brand", title=TITLE)
    return tag("nav", name, *links, aria_label="Pages")


def _top_bar(workspace: Workspace, page: Page) -> Html:
    keys = {**page.keys, **KEYS}
    sheet = tag(
        "dialog",
        tag("h2", "Keys of this page"),
        tag("dl", *(tag("div", tag("dt", tag("kbd", key)), tag("dd", what)) for key, what in keys.items())),
        tag("form", tag("button", "Close", class_="pl-button"), method="dialog"),
        id="pl-keys",
    )
    return join(
        [
            tag("span", "Workspace ", tag("strong", workspace.name), class_="pl-workspace"),
            tag("span", class_="pl-spacer"),
            _icon_button("help", "Keys of this page (key ?)", data_keys="open"),
            _icon_button("theme", "Light or dark", data_theme="toggle"),
            sheet,
        ]
    )


def _icon_button(name: str, title: str, **attributes: str) -> Html:
    return tag(
        "button", icon(name), type="button", class_="pl-icon-button", title=title, aria_label=title, **attributes
    )
