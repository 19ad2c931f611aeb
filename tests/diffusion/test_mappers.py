"""Mappers between captions: columns sum to one, words map to words whatever their tokens, schedules, weights."""

from __future__ import annotations

from difflib import SequenceMatcher

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.diffusion.mappers import identity, refinement, replacement, scales, schedule
from engines.diffusion.words import Caption, read_caption
from engines.errors import ConfigError
from tests.diffusion.tiny import tokenizer

ROOM = 20
WORDS = st.sampled_from(["a", "cat", "dog", "dermatofibroma", "nevus", "T-shirt", "🐱", "chimpanzee", "on"])
GAPS = st.sampled_from([" ", ", ", " - ", "... "])
SENTENCES = st.lists(st.tuples(WORDS, GAPS), max_size=9)


def read(text: str, room: int = ROOM) -> Caption:
    return read_caption(text, tokenizer(), room)


def sentence(parts: list[tuple[str, str]]) -> str:
    return "".join(word + gap for word, gap in parts)


@settings(max_examples=80, deadline=None)
@given(SENTENCES, st.data())
def test_columns_of_a_swap_sum_to_one_or_are_new_punctuation(
    source: list[tuple[str, str]], data: st.DataObject
) -> None:
    edited = data.draw(st.lists(st.tuples(WORDS, GAPS), min_size=len(source), max_size=len(source)))
    before, after = read(sentence(source)), read(sentence(edited))
    found = replacement(before, after, ROOM)
    sums = found.matrix.sum(dim=0)
    assert float(found.matrix.min()) >= 0
    in_words = [position for word in after.words for position in word.positions]
    read_twice = [word for word, old in zip(after.words, before.words, strict=True) if word.positions and old.positions]
    for word in read_twice:
        torch.testing.assert_close(sums[list(word.positions)], torch.ones(len(word.positions)))
    rest = torch.tensor([sums[at] for at in range(ROOM) if at not in in_words])
    assert bool(((rest - 1).abs() < 1e-6).logical_or(rest == 0).all())


@settings(max_examples=60, deadline=None)
@given(SENTENCES)
def test_the_same_caption_maps_to_itself(parts: list[tuple[str, str]]) -> None:
    text = sentence(parts)
    caption, ids = read(text), tokenizer()(text, truncation=True, max_length=ROOM).input_ids
    torch.testing.assert_close(replacement(caption, caption, ROOM).matrix, torch.eye(ROOM))
    torch.testing.assert_close(refinement(ids, ids, ROOM).matrix, torch.eye(ROOM))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), max_size=8), st.lists(st.integers(1, 5), max_size=8))
def test_a_refinement_keeps_equal_tokens_in_their_order(source: list[int], edited: list[int]) -> None:
    """And no fewer of them than another way of comparing finds."""
    source, edited = [0, *source, 9], [0, *edited, 9]
    found = refinement(source, edited, ROOM)
    pairs = [(int(found.matrix[:, new].argmax()), new) for new in range(len(edited)) if found.matrix[:, new].sum() == 1]
    assert all(source[old] == edited[new] for old, new in pairs)
    assert [old for old, _ in pairs] == sorted({old for old, _ in pairs})
    other = SequenceMatcher(None, source, edited, autojunk=False).get_matching_blocks()
    assert len(pairs) >= sum(block.size for block in other)
    # Padding looks at padding, however long the captions are.
    for new in range(len(edited), ROOM):
        assert int(found.matrix[:, new].argmax()) >= len(source)
        assert found.matrix[:, new].sum() == 1


def test_a_word_takes_the_mean_of_all_tokens_of_the_old_one() -> None:
    """A dermatofibroma has five tokens (2 to 6), a nevus two; "skin" stands behind both."""
    found = replacement(read("a dermatofibroma, skin"), read("a nevus, skin"), ROOM)
    maps = torch.arange(float(ROOM))
    own = torch.full((ROOM,), 99.0)
    assert found.apply(maps, own)[:7].tolist() == [0, 1, 4, 4, 7, 8, 9]


def test_a_new_comma_keeps_its_own_map() -> None:
    found = replacement(read("a cat skin"), read("a nevus, skin"), ROOM)
    taken = found.apply(torch.arange(float(ROOM)), torch.full((ROOM,), 99.0))
    assert taken[:7].tolist() == [0, 1, 2, 2, 99, 3, 4]
    assert taken[-1] == ROOM - 3


def test_padding_is_never_read_beyond_the_end() -> None:
    found = replacement(read("a dermatofibroma"), read("a cat"), ROOM)
    assert found.apply(torch.arange(float(ROOM)), torch.zeros(ROOM)).tolist() == [
        0, 1, 4, *range(7, ROOM), *[ROOM - 1] * 4,
    ]  # fmt: skip


def test_words_that_the_model_does_not_read_do_no_harm() -> None:
    long = "a " * 15 + "cat and a dermatofibroma"
    found = replacement(read(long), read(long.replace("cat", "chimpanzee")), ROOM)
    torch.testing.assert_close(found.matrix.sum(dim=0), torch.ones(ROOM))


@pytest.mark.parametrize(("source", "edited"), [("a cat", "a happy cat"), ("a cat", ""), ("", "a cat")])
def test_a_swap_of_other_numbers_of_words_is_told(source: str, edited: str) -> None:
    with pytest.raises(ConfigError, match="one for one"):
        replacement(read(source), read(edited), ROOM)


def test_tokens_that_stand_in_both_captions() -> None:
    source, edited = (tokenizer()(text).input_ids for text in ("a cat and a dog", "a happy cat and a wolf"))
    same = refinement(source, edited, ROOM).same_tokens(source, edited)
    assert same == {0: 0, 1: 1, 3: 2, 4: 3, 5: 4, 7: 6}
    assert identity(ROOM).same_tokens(source, edited) == {0: 0, 1: 1}


def test_shares_of_the_steps() -> None:
    caption = read("a lion and a dog")
    found = schedule(caption, 10, ROOM, 0.5, {"lion": (0.2, 0.4), "dog": 0.0, 3: 1.0})
    assert found[:, 0].tolist() == [1] * 5 + [0] * 5
    assert found[:, 2].tolist() == [0] * 2 + [1] * 2 + [0] * 6
    assert not found[:, 5].any()
    assert found[:, 4].all()
    for share in (-0.1, 1.1, (0.6, 0.2), float("nan")):
        with pytest.raises(ConfigError, match="no part of the steps"):
            schedule(caption, 10, ROOM, share)
    with pytest.raises(ConfigError, match="does not contain"):
        schedule(caption, 10, ROOM, 0.5, {"cat": 0.3})


def test_weights_of_words() -> None:
    assert scales(read("a dermatofibroma"), {"dermatofibroma": 0.5}, ROOM)[:8].tolist() == [1, 1, *[0.5] * 5, 1]
    for factor in (21, -21, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="cannot be weighted"):
            scales(read("a cat"), {"cat": factor}, ROOM)
    with pytest.raises(ConfigError, match="does not contain"):
        scales(read("a cat"), {"dog": 1.0}, ROOM)
