"""A tour of the workbench in six steps: skipped or repeated at will, turned over in the browser alone."""

from __future__ import annotations

from app.components.html import Html, tag, term

STEPS = (
    ("Bring images in", "Open Data and choose a folder with one sub-folder per class. Nothing leaves this computer."),
    (
        "Check labels, or give them",
        "Check in the gallery of Data that labels are right. For images without labels open Label: the program picks "
        "those that are worth your time, and one key is one label.",
    ),
    (
        "Ask the model without training",
        Html(
            "Open Train and start the "
            + term("ready-made prompt", "A sentence such as “a photo of a neutrophil”, used as it is (zero-shot).")
            + ": it shows what the model knows already, in seconds."
        ),
    ),
    (
        "Train a prompt",
        Html(
            "Choose CoOp and 16 "
            + term("labelled images per class", "In papers: shots. The images that the prompt learns from.")
            + ". The form says before the start how long it takes."
        ),
    ),
    (
        "Compare",
        "Open Runs. The first sentence says whether training helped, and whether that can be chance; below are the "
        "mistakes, class by class.",
    ),
    (
        "Try your own image",
        "On a result’s page, drop an image that the prompt has never seen. Export the prompt to use it elsewhere.",
    ),
)


def tour() -> Html:
    """All steps, the first one shown; see `data-tour` in workbench.js."""
    steps = (
        tag(
            "div",
            tag("p", f"Step {place} of {len(STEPS)}", class_="pl-quiet"),
            tag("h3", title),
            tag("p", text),
            class_="pl-tour-step",
            hidden=place > 1,
        )
        for place, (title, text) in enumerate(STEPS, 1)
    )
    buttons = tag(
        "div",
        tag("button", "Back", type="button", class_="pl-button small", data_tour="back", disabled=True),
        tag("button", "Next", type="button", class_="pl-button small primary", data_tour="next"),
        tag("button", "Skip the tour", type="button", class_="pl-button small quiet", data_tour="skip"),
        class_="pl-buttons",
    )
    offer = tag(
        "button", "Take the tour (six steps, two minutes)", type="button", class_="pl-button small", data_tour="begin"
    )
    return tag(
        "div",
        tag("div", offer, class_="pl-tour-offer"),
        tag("div", *steps, buttons, class_="pl-card pl-tour-card", hidden=True),
        class_="pl-tour",
    )
