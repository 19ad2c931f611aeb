"""What is told of a study to those who get its files. Torch-free."""

from __future__ import annotations

from engines.diffusion.golden.judged import judgements
from engines.diffusion.golden.scorers import SCORERS
from engines.diffusion.golden.study import Curve, Study
from engines.diffusion.golden.votes import Votes

USE = """```python
from pathlib import Path
from diffusers import StableDiffusionPipeline
from engines.diffusion.golden.checkpoint import load_npnet
from engines.diffusion.golden.use import golden_latents

pipe = StableDiffusionPipeline.from_pretrained("the folder of the model below")
latents = golden_latents(pipe, load_npnet(Path("npnet.safetensors")), "a prompt", seeds=1)
image = pipe("a prompt", latents=latents).images[0]
```"""


def write_card(study: Study) -> str:
    """The card as Markdown, with the head that model hubs read."""
    request = study.request
    options = request.settings
    parts = [
        "---\nlibrary_name: promptloupe\npipeline_tag: text-to-image\ntags:\n- golden-noise\n- npnet\n---",
        f"# Golden noise: {request.name or study.id}",
        "All images here are synthetic: a text-to-image model generated them. They are no photographs and no evidence.",
        "## How it was made",
        "\n".join(
            f"- {name}: {value}"
            for name, value in {
                "Text-to-image model": request.model.rsplit("/", 1)[-1],
                "Pairs chosen by": SCORERS[request.scorer].title if request.scorer in SCORERS else request.scorer,
                "Denoising steps": options.steps,
                "Guidance": f"{options.guidance:g}, and {options.inverse_guidance:g} on the way back",
                "Level on the way back": options.variant,
                "Collected": f"{request.created:%d %b %Y}",
            }.items()
        ),
        "## Pairs",
        _pairs(study),
        "## NPNet",
        _network(study.newest()),
        "## Judged",
        "\n".join(_judged(study)) or "Nothing was judged yet.",
        "Re-denoise sampling and NPNet: Zhou et al., Golden Noise for Diffusion Models, arXiv:2411.09502.",
    ]
    return "\n\n".join(parts) + "\n"


def _pairs(study: Study) -> str:
    won = study.won()
    if won is None:
        return "None yet."
    return f"{won.pairs:,} pairs. By the score that they were chosen by, {won.verdict()}"


def _network(curve: Curve | None) -> str:
    if curve is None or curve.best is None:
        return "None was trained yet."
    least = curve.held_out[curve.best]
    return (
        f"Trained on {curve.pairs:,} pairs; the best of {len(curve.held_out):,} passes by {curve.held_out_pairs:,} "
        f"pairs of other prompts. Mean squared error there: {least:.4f}; of changing nothing: {curve.unchanged:.4f}."
        f"\n\n{USE}"
    )


def _judged(study: Study) -> list[str]:
    lines = []
    for judgement in judgements(study):
        for kind in judgement.kinds[1:]:
            for scorer, name in judgement.scorers.items():
                compared = judgement.comparison(scorer, kind)
                if compared is not None:
                    lines.append(f"- {kind} against standard noise, {name}: {compared.verdict(kind)}")
        votes = Votes(judgement)
        for each in votes.rounds():
            outcome = votes.outcome(each)
            if outcome is not None:
                lines.append(f"- {each.rival} against standard noise, blind votes: {outcome.verdict(each.rival)}")
    return lines
