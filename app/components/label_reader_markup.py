"""What the reading screen is made of. It is filled and moved by `static/label*.js`."""

from __future__ import annotations

from app.components.html import Html, tag

KEYS = {
    "1 – 9": "Give the first nine classes; further classes have letters",
    "← →": "Look at another image without deciding",
    "U": "Unsure",
    "G": "Not gradable",
    "S": "Skip for later: it comes again at the end",
    "F": "Flag with a comment",
    "Z": "Undo, over all you have done",
    "Y": "Redo (also Shift + Z)",
    "V": "One large image, or the grid",
    "+ −": "Zoom; 0 shows all of the image or its own size",
    "[ ]": "Darker, brighter",
    ", .": "Less contrast, more contrast",
    "W": "The next window of a DICOM image: its own, and for CT lung, bone, …",
    "Space": "In the grid: select the image; with Shift and arrows several",
}
"""Keys of the reading screen, for the sheet of its page."""


def _button(label: str, key: str, command: str, said: str = "") -> Html:
    return tag(
        "button",
        tag("kbd", key),
        tag("span", label),
        type="button",
        class_="pl-button small",
        data_command=command,
        title=said or None,
    )


def _small(label: str, command: str, said: str) -> Html:
    return tag(
        "button", label, type="button", class_="pl-button small", data_command=command, title=said, aria_label=said
    )


def _slider(name: str, label: str, least: int = 20, most: int = 300, value: int = 100) -> Html:
    return tag(
        "label",
        tag("span", label),
        tag("input", type="range", min=least, max=most, value=value, step="any", data_part=name, aria_label=label),
        tag("output", data_part=f"{name}-said"),
        data_part=f"{name}-row",
    )


_HEAD = tag(
    "header",
    tag("strong", data_part="title"),
    tag("span", data_part="place", class_="pl-quiet"),
    tag("span", data_part="mode", class_="pl-chip"),
    tag("span", class_="pl-spacer"),
    tag(
        "span",
        tag("button", "One image", type="button", data_command="one", class_="pl-button small"),
        tag("button", "Grid", type="button", data_command="many", class_="pl-button small"),
        tag("kbd", "V"),
        class_="pl-buttons",
        role="group",
        aria_label="How the images are shown",
    ),
    class_="pl-reader-head",
)

_MESSAGES = Html(
    tag(
        "div",
        tag("p", data_part="trouble-said"),
        tag("span", _small("Try now", "retry", "Send it again now"), class_="pl-buttons"),
        data_part="trouble",
        class_="pl-notice warning pl-row",
        role="alert",
        hidden=True,
    )
    + tag(
        "div",
        tag("p", data_part="again-said"),
        tag("span", _small("Back to the queue (Esc)", "leave", "Leave this image as it is"), class_="pl-buttons"),
        data_part="again",
        class_="pl-notice pl-row",
        hidden=True,
    )
)

_ONE = tag(
    "section",
    tag(
        "div",
        tag("canvas", data_part="canvas", role="img", aria_label="The image to be read"),
        tag("p", data_part="problem", hidden=True),
        tag(
            "div",
            tag("span", data_part="zoom", class_="pl-quiet"),
            _small("−", "zoom-out", "Smaller (key −)"),
            _small("+", "zoom-in", "Larger (key +)"),
            _small("Fit", "fit", "All of the image (key 0)"),
            _small("1 : 1", "own-size", "Its own size (key 0)"),
            class_="pl-reader-tools",
        ),
        data_part="stage",
    ),
    tag("p", data_part="why"),
    tag("p", data_part="suggested", hidden=True),
    tag("p", data_part="state"),
    data_part="one",
    aria_label="One image",
)

_MANY = tag(
    "section",
    tag(
        "div",
        tag("span", data_part="selected", class_="pl-quiet"),
        tag(
            "span",
            _small("Select all", "all", "Select all of this page (Ctrl + A)"),
            _small("Select none", "none", "Select none (Esc)"),
            _small("‹ Back", "page-back", "Page before (Page Up)"),
            _small("Next ›", "page-next", "Next page (Page Down)"),
            class_="pl-buttons",
        ),
        class_="pl-row",
    ),
    tag("div", data_part="cells", class_="pl-cells", role="listbox", aria_multiselectable="true", aria_label="Images"),
    data_part="many",
    aria_label="Grid of images",
    hidden=True,
)

_SIDE = tag(
    "aside",
    tag("h3", "Class"),
    tag(
        "input",
        type="search",
        data_part="filter",
        placeholder="Find a class (key /)",
        aria_label="Find a class; Enter takes the first",
        autocomplete="off",
        hidden=True,
    ),
    tag("div", data_part="classes", class_="pl-classes", role="group", aria_label="Classes"),
    tag(
        "div",
        _button("Unsure", "U", "unsure"),
        _button("Not gradable", "G", "not_gradable"),
        _button("Skip for later", "S", "skip", "It comes again at the end"),
        _button("Flag …", "F", "flag", "With a comment"),
        _button("Undo", "Z", "undo"),
        _button("Redo", "Y", "redo"),
        _button("Back", "←", "back", "The image before, without deciding"),
        _button("Next", "→", "next", "The next image, without deciding"),
        class_="pl-commands",
        role="group",
        aria_label="Other verdicts",
    ),
    tag(
        "details",
        tag("summary", "Brightness and contrast"),
        _slider("brightness", "Brightness"),
        _slider("contrast", "Contrast"),
        _slider("centre", "Window level"),
        _slider("span", "Window width"),
        tag(
            "div",
            tag("span", "Windows (W)"),
            tag("span", data_part="presets", class_="pl-buttons", role="group", aria_label="Windows"),
            data_part="presets-row",
            class_="pl-presets",
            hidden=True,
        ),
        tag(
            "label",
            tag("input", type="checkbox", data_part="hold"),
            tag("span", "Keep for the next images"),
            class_="pl-hold",
        ),
        tag("p", "Drag with the right button, or with Shift; double-click resets.", class_="pl-quiet"),
        _small("Reset", "reset", "As at first (double-click on the image)"),
        class_="pl-adjust",
        data_part="adjust",
    ),
    tag("h3", "Your last verdicts"),
    tag("ol", data_part="past", class_="pl-past"),
    class_="pl-reader-side",
)

_FLAG = tag(
    "dialog",
    tag("h2", "Flag this image", data_part="flag-title"),
    tag("label", "What should others know?", for_="pl-flag-comment"),
    tag("textarea", id="pl-flag-comment", data_part="comment", rows=3, maxlength=2000),
    tag(
        "p",
        tag("button", "Keep (Enter)", type="button", class_="pl-button primary", data_command="flag-keep"),
        " ",
        tag("button", "Leave (Esc)", type="button", class_="pl-button", data_command="flag-leave"),
    ),
    data_part="flag-box",
    class_="pl-dialog",
)

_CONFLICT = tag(
    "dialog",
    tag("h2", "You have decided this already"),
    tag("p", data_part="conflict-said"),
    tag(
        "p",
        tag("button", type="button", class_="pl-button primary", data_command="conflict-keep", data_part="stay"),
        " ",
        tag("button", type="button", class_="pl-button", data_command="conflict-take", data_part="take"),
    ),
    data_part="conflict",
    class_="pl-dialog",
)

MARKUP = str(
    tag(
        "div",
        _HEAD,
        _MESSAGES,
        tag(
            "div",
            tag(
                "div",
                _ONE,
                _MANY,
                tag("div", tag("p", data_part="empty-said"), data_part="empty", class_="pl-empty", hidden=True),
                tag("p", data_part="before", class_="pl-before"),
                class_="pl-reader-main",
            ),
            _SIDE,
            class_="pl-reader-body",
        ),
        tag("p", data_part="said", class_="pl-unseen", role="status", aria_live="polite"),
        _FLAG,
        _CONFLICT,
        data_part="root",
        class_="pl-reader",
        hidden=True,
    )
)
"""The screen, empty and hidden."""
