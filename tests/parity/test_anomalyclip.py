"""AnomalyCLIP and its measures against the official implementation."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from engines.backbones import Backbone
from engines.backbones.local import TokenMemory
from engines.errors import BackboneError, ConfigError, PromptloupeError
from engines.prompts import create_method
from engines.prompts.anomaly_maps import map_terms
from engines.prompts.anomaly_metrics import ranking, region_overlap, summarise_anomalies
from engines.prompts.anomalyclip import TEMPERATURE, AnomalyCLIP
from engines.prompts.trainer import Examples
from tests.parity import parity_weights
from tests.parity.checks import assert_close, assert_same_value, fill_official, load_case
from tests.parity.test_maple import wrapped

NAMES = ["normal", "anomalous"]
LABELS = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0])
OFFICIAL = {"depth": 3, "dpam_layer": 3, "features_list": "1 2 3"}


def masks() -> Tensor:
    places = parity_weights.noise("parity.masks.anomaly", (8, 4, 4)) > 0.5
    return torch.from_numpy(np.kron(places, np.ones((8, 8)))) * LABELS[:, None, None]


def method_for(backbone: Backbone, **settings: object) -> AnomalyCLIP:
    method = create_method("anomalyclip", backbone, NAMES, **{**OFFICIAL, **settings})
    assert isinstance(method, AnomalyCLIP)
    fill_official(method)
    method.start(Examples(LABELS, masks=lambda indices, epoch: masks()[indices]))
    return method


def test_sees_what_the_official_code_sees(backbone: Backbone) -> None:
    case, method, pixels = load_case("anomalyclip"), method_for(backbone), parity_weights.images()
    for row, layout in zip(case["token_ids"], method.layouts, strict=True):
        length = layout.ids.shape[1]
        np.testing.assert_array_equal(layout.ids[0].numpy(), row[:length])
        assert not row[length:].any()
    seen, text = method.see(pixels), method.text_features()
    assert_close(text, case, "text_features")
    assert_close(method.image_features(pixels), case, "image_features")
    assert_close(torch.stack(seen.layers), case, "patch_features")
    assert_close(method.logits(pixels), case, "image_logits")
    assert_close(torch.stack([method.similarity(tokens, text) for tokens in seen.layers]), case, "similarity")
    maps = torch.stack([method.side_by_side(tokens, text, (32, 32)) for tokens in seen.layers])
    assert_close(maps, case, "similarity_maps")
    assert_close(maps[:, 0], case, "similarity_map_0")
    score, smooth = method.judge(pixels, [text])[0]
    assert_close(score, case, "image_score")
    assert_close(smooth[:4], case, "anomaly_map_smooth")
    assert_close(method_for(backbone, sigma=0).maps(pixels)[:4], case, "anomaly_map")


def test_learns_as_the_official_code_does(backbone: Backbone) -> None:
    case, method, pixels = load_case("anomalyclip"), method_for(backbone), parity_weights.images()
    np.testing.assert_array_equal(masks().numpy() > 0.5, case["mask"])
    text = method.text_features().detach()
    terms = [map_terms(method.side_by_side(t, text, (32, 32)), masks().float()) for t in method.see(pixels).layers]
    assert_close(torch.tensor([[float(term) for term in layer] for layer in terms]), case, "loss_parts")
    assert_close(F.cross_entropy(method.logits(pixels), LABELS), case, "loss_image")
    assert_close(4 * sum(sum(layer) for layer in terms), case, "loss_pixel")
    optimizer = torch.optim.SGD(method.trainable_parameters().values(), lr=0.002, momentum=0.9, weight_decay=5e-4)
    losses = []
    for step in range(6):
        optimizer.zero_grad()
        method.begin_step(torch.arange(8), 0, 0)
        losses.append(float(method.backward(pixels, LABELS)))
        if step == 0:
            for name, parameter in method.trainable_parameters().items():
                assert_close(parameter.grad, case, f"grad.{method.official_name(name)}")
        if step == 5:
            break
        optimizer.step()
    assert_close(np.array(losses), case, "losses")
    for name, parameter in method.trainable_parameters().items():
        assert_same_value(parameter, case, f"after5.{method.official_name(name)}")


def test_measures_equal_the_official_ones() -> None:
    case = load_case("anomalyclip_metrics")
    labels = case["labels"]
    noise = parity_weights.noise("parity.metrics.masks", (6, 8, 8))
    marks = np.kron((noise > 0.9) * labels[:, None, None], np.ones((4, 4))).astype(bool)
    np.testing.assert_array_equal(marks, case["masks"])
    maps = parity_weights.noise("parity.metrics.maps", (6, 32, 32)) * 0.6 + marks
    scores = parity_weights.noise("parity.metrics.scores", (6,)) + labels
    found = summarise_anomalies(scores, maps, marks, labels == 1)
    for ours, theirs in {"image_auroc": "image_auroc", "image_ap": "image_ap", "pixel_auroc": "pixel_auroc"}.items():
        assert_close(found[ours], case, theirs)
    assert_close(found["pro"], case, "pixel_aupro")
    assert_close(region_overlap(maps, marks, limit=0.1), case, "aupro_fpr_0_1")
    with pytest.raises(AssertionError):
        assert_close(ranking(-maps, marks)[0], case, "pixel_auroc")


def test_parts_of_a_batch_add_up(backbone: Backbone) -> None:
    """The trainer may split a batch where memory is short."""
    method, pixels, gradients = method_for(backbone), parity_weights.images(), []
    for parts in (1, 4):
        method.zero_grad()
        for part in torch.arange(8).chunk(parts):
            method.begin_step(part, 0, 0)
            method.backward(pixels[part], LABELS[part], weight=len(part) / 8)
        gradients.append({name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None})
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))


def test_images_that_stay_the_same_are_looked_at_once(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    method, pixels, looks = method_for(backbone), parity_weights.images(), []
    see = method.see
    monkeypatch.setattr(method, "see", lambda given: looks.append(len(given)) or see(given))
    losses = []
    for still in (False, True, True):
        if len(losses) < 2:
            method.start(Examples(LABELS, masks=lambda indices, epoch: masks()[indices], still=still))
        order = torch.tensor([3, 1, 2, 0] if len(losses) == 2 else [0, 1, 2, 3])
        method.begin_step(order, 0, 0)
        losses.append(float(method.loss(pixels[order], LABELS[order]).detach()))
    assert looks == [4, 4]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    method._memory = TokenMemory(room=0)
    for _ in range(2):
        method.begin_step(torch.arange(4), 0, 0)
        method.loss(pixels[:4], LABELS[:4])
    assert looks == [4] * 4


def test_without_masks_all_are_empty(backbone: Backbone) -> None:
    method, pixels = method_for(backbone), parity_weights.images()
    method.begin_step(torch.arange(8), 0, 0)
    marked = method.loss(pixels, LABELS)
    alone = method.loss(pixels, LABELS)  # masks of a step are not kept for later
    method.start(Examples(LABELS, masks=lambda indices, epoch: torch.zeros(len(indices), 32, 32)))
    method.begin_step(torch.arange(8), 0, 0)
    assert method.loss(pixels, LABELS).item() == alone.item() != marked.item()


def test_images_of_other_sizes(backbone: Backbone) -> None:
    """Positions are interpolated from the model's own each time, so that order does not matter."""
    method = method_for(backbone)
    small, large = parity_weights.images(), torch.randn(2, 3, 48, 64)
    before = method.maps(small)
    assert method.maps(large).shape == (2, 48, 64)
    assert torch.equal(method.maps(small), before)
    tower = backbone.vision
    assert tower.embed(large).shape == (2, 1 + 6 * 8, tower.width)
    own = backbone.model.visual.positional_embedding
    corner = tower._positions((8, 8))[1]  # type: ignore[attr-defined]  # half a patch outside the corner patch's centre
    torch.testing.assert_close(corner, own[1])


def test_full_local_layers_keep_nothing_of_those_before(backbone: Backbone) -> None:
    pixels = parity_weights.images()
    one = method_for(backbone, ffn=True, dpam_layer=2, features_list="3").see(pixels)
    two = method_for(backbone, ffn=True, dpam_layer=3, features_list="3").see(pixels)
    torch.testing.assert_close(one.layers[0], two.layers[0])
    plain = method_for(backbone, dpam_layer=3, features_list="3").see(pixels)
    assert not torch.allclose(plain.layers[0], two.layers[0], atol=1e-2)
    ordinary = method_for(backbone, dpam_layer=1, features_list="3").see(pixels)
    torch.testing.assert_close(ordinary.image, plain.image)
    states = backbone.vision.hidden_states(pixels)
    torch.testing.assert_close(ordinary.layers[0], backbone.vision.joint_tokens(states[-1]))


def test_hand_written_sentences(backbone: Backbone) -> None:
    method = method_for(backbone)
    ready = method.written_features("glass_bottle")
    assert torch.allclose(ready.norm(dim=1), torch.ones(2))
    sentences = [f"there is a {state} in the scene." for state in ("damaged glass bottle", "glass bottle with damage")]
    unit = F.normalize(backbone.encode_text(sentences), dim=-1)
    assert (unit @ (ready[1] - ready[0]) > 0).all()
    score, maps = method.judge(parity_weights.images(), [ready])[0]
    assert score.shape == (8,)
    assert maps.shape == (8, 32, 32)
    beside = method.untrained().logits(parity_weights.images())
    plain = method.judge(parity_weights.images(), [method.written_features()])[0][0]
    torch.testing.assert_close(beside.softmax(dim=1)[:, 1], plain)


def test_images_are_stretched(backbone: Backbone) -> None:
    image = Image.fromarray(np.repeat(np.linspace(0, 255, 90).astype(np.uint8), 20).reshape(90, 20)).convert("RGB")
    pixels = method_for(backbone, image_size=64).prepare(image)
    assert pixels.shape == (3, 64, 64)
    assert pixels[0, 0, 0] < -1.5 < 1.5 < pixels[0, -1, -1]


def test_official_checkpoint_is_taken_over(backbone: Backbone) -> None:
    method = method_for(backbone)
    unused = {"compound_prompt_projections.0.weight": torch.zeros(896, 128), "token_prefix_pos": torch.zeros(1, 1, 128)}
    saved = {"prompt_learner": method.official_state_dict() | unused}
    other = create_method("anomalyclip", backbone, NAMES, **OFFICIAL)
    other.load_official(saved)
    assert torch.equal(other.text_features(), method.text_features())
    with pytest.raises(ConfigError, match="no place for"):
        create_method("anomalyclip", backbone, NAMES, depth=2).load_official(saved)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"t_n_ctx": 13}, "may not be larger"),
        ({"features_list": "1 4"}, "1 to 3"),
        ({"features_list": "0"}, "1 to 3"),
        ({"features_list": "last"}, "features_list"),
        ({"damaged": " "}, "damaged"),
        ({"damaged": "very " * 80 + "damaged"}, "tokens"),
    ],
)
def test_bad_settings_are_told_in_words(backbone: Backbone, settings: dict[str, object], said: str) -> None:
    with pytest.raises(PromptloupeError, match=said):
        create_method("anomalyclip", backbone, NAMES, **settings)


def test_what_cannot_work_is_refused(backbone: Backbone, biomedical: Backbone) -> None:
    with pytest.raises(ConfigError, match="3 classes"):
        create_method("anomalyclip", backbone, ["a", "b", "c"])
    with pytest.raises(BackboneError, match="CLIP’s own ViT"):
        create_method("anomalyclip", biomedical, NAMES)
    with pytest.raises(BackboneError, match="ResNet"):
        create_method("anomalyclip", wrapped({"layers": [1, 1, 1, 1], "width": 8, "head_width": 8}), NAMES)
    assert TEMPERATURE == 0.07


def test_numbers_of_the_paper(backbone: Backbone) -> None:
    """37 patches where the model was made for 24, 19 local layers of 24, and the published training."""
    method = create_method("anomalyclip", backbone, NAMES)
    assert isinstance(method, AnomalyCLIP)
    assert method.image_size == 48
    assert (method.first_local, method.layers) == (1, [3])
    training = AnomalyCLIP.training_defaults("zero-shot-anomaly")
    assert (training.optimizer, training.beta1, training.learning_rate) == ("adam", 0.5, 0.001)
    assert (training.epochs, training.batch_size, training.rate(0), training.rate(14)) == (15, 8, 0.001, 0.001)
