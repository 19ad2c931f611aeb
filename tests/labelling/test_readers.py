"""One reader is one reader, however the name is typed; what was written stays as it is."""

from __future__ import annotations

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from engines.errors import DataError
from engines.labelling import (
    adjudication_tasks,
    agreement,
    check_chain,
    history,
    progress,
    record_all,
    redo,
    standing,
    tasks,
    undo,
    undoable,
)
from engines.labelling.readers import folded, known_as, tidy
from engines.store import Annotation, Occasion, Verdict
from tests.labelling.conftest import Clinic, event

OTHERWISE = ["ada lovelace", "ADA LOVELACE", "  Ada   Lovelace ", "Ada\u00a0Lovelace", "ａｄａ lovelace"]


def readers(clinic: Clinic) -> list[str]:
    with clinic.workspace.session() as session:
        return list(session.scalars(select(Annotation.annotator).order_by(Annotation.id)))


@pytest.mark.parametrize("typed", OTHERWISE)
def test_the_first_spelling_is_kept(clinic: Clinic, typed: str) -> None:
    first = clinic.say(0, "a", "Ada Lovelace")
    assert clinic.say(1, "b", typed).others == []
    same = clinic.say(0, "a", typed)
    assert (same.id, same.doubled) == (first.id, True)
    assert clinic.say(0, "b", typed).conflict is not None
    assert readers(clinic) == ["Ada Lovelace"] * 2
    assert check_chain(clinic.workspace).broken is None


@pytest.mark.parametrize("typed", OTHERWISE)
def test_whatever_is_asked_by_name_is_asked_of_the_same_reader(clinic: Clinic, typed: str) -> None:
    clinic.add_round([0, 1, 2], readers=[0, 1, 2])
    clinic.say(0, "a", "Ada Lovelace")
    clinic.say(0, "b", "Bo")
    clinic.say(1, "a", "Ada Lovelace")
    workspace, name = clinic.workspace, "Ada Lovelace"
    assert standing(workspace, clinic.id, typed) == standing(workspace, clinic.id, name) != {}
    assert tasks(workspace, clinic.id, typed) == tasks(workspace, clinic.id, name)
    assert [task.sample_id for task in tasks(workspace, clinic.id, typed)] == [clinic.samples[2]]
    assert adjudication_tasks(workspace, clinic.id, typed) == []
    assert len(history(workspace, clinic.id, typed)) == 2
    assert progress(workspace, clinic.id, typed).left == progress(workspace, clinic.id, name).left == 1
    assert agreement(workspace, clinic.id, [typed, "BO"]).readers == [name, "Bo"]
    assert undoable(workspace, clinic.id, typed) == (2, 0)
    change = undo(workspace, clinic.id, typed, event())
    assert change is not None
    assert change.sample_id == clinic.samples[1]
    assert redo(workspace, clinic.id, name, event()) is not None
    assert set(readers(clinic)) == {name, "Bo"}


def test_two_unicode_forms_of_one_name(clinic: Clinic) -> None:
    composed, taken_apart = (unicodedata.normalize(form, "Zoë Ångström") for form in ("NFC", "NFD"))
    assert composed != taken_apart
    clinic.say(0, "a", taken_apart)
    clinic.say(1, "a", composed)
    assert readers(clinic) == [composed] * 2


def test_several_at_once_with_several_spellings(clinic: Clinic) -> None:
    record_all(clinic.workspace, [clinic.entry(n, "a", name) for n, name in enumerate(["eVe", "Eve", "EVE"])])
    assert readers(clinic) == ["eVe"] * 3
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: clinic.say(n, "b", ["Max", "MAX"][n % 2]), range(6)))
    assert len(set(readers(clinic)[3:])) == 1
    assert check_chain(clinic.workspace).broken is None


def test_a_log_with_two_spellings_stays_and_goes_on_with_the_first(clinic: Clinic) -> None:
    """Rows from before names were matched: nobody touches them."""
    from engines.labelling.writing import append, writing

    with writing(clinic.workspace, clinic.id) as session:
        for image, name in enumerate(["ada", "Ada"]):
            row = Annotation(
                sample_id=clinic.samples[image],
                class_id=clinic.classes["a"],
                verdict=Verdict.LABEL,
                annotator=name,
                event=event(),
                occasion=Occasion.READING,
                comment="",
                model="",
                aids={},
            )
            append(session, clinic.id, row)
    clinic.say(2, "b", "Ada")
    assert readers(clinic) == ["ada", "Ada", "ada"]
    assert [row.annotator for row in history(clinic.workspace, clinic.id, "ADA")] == ["ada", "Ada", "ada"]
    assert check_chain(clinic.workspace).broken is None


def test_different_people_stay_different(clinic: Clinic) -> None:
    for image, name in enumerate(["Ada", "Adá", "Ada B", "AdaB"]):
        clinic.say(image, "a", name)
    assert readers(clinic) == ["Ada", "Adá", "Ada B", "AdaB"]


def test_a_name_is_known_in_all_data_sets_of_a_workspace(clinic: Clinic) -> None:
    clinic.say(0, "a", "Dr Meyer")
    Clinic(clinic.workspace, name="others").say(0, "a", "dr meyer ")
    assert readers(clinic) == ["Dr Meyer"] * 2
    assert known_as(clinic.workspace, " DR  MEYER") == "Dr Meyer"
    assert known_as(clinic.workspace, "  New  One ") == "New One"
    assert known_as(clinic.workspace, " \u00a0") == ""


def test_nobody_is_still_nobody(clinic: Clinic) -> None:
    with pytest.raises(DataError, match="needs a reader"):
        clinic.say(0, "a", "\u00a0 ")
    with pytest.raises(DataError, match="cannot be shown"):
        clinic.say(0, "a", "Ada\nLovelace")


@given(st.text(max_size=30))
def test_folding_is_stable_and_blind_to_form_and_case(name: str) -> None:
    assert folded(folded(name)) == folded(name)
    assert tidy(tidy(name)) == tidy(name)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert folded(unicodedata.normalize(form, name)) == folded(name)
    assert folded(name.casefold()) == folded(name)
    assert folded(f" {name} ") == folded(name)
