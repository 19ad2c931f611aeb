"""Clusters, the nouns that own them, and reading the mask: DPL's official commit b3d30f7."""

from __future__ import annotations

import numpy as np
import torch

from engines.diffusion.background import owners_of, shrink_mask
from tests.parity.checks import load_case

CASE, ATTENTION = load_case("dpl_background"), load_case("dpl_attention")


def test_owners_of_clusters() -> None:
    heat = torch.from_numpy(ATTENTION["inv_cross_8"][..., [2, 5]]).permute(2, 0, 1)
    owners = owners_of(CASE["clusters"].astype(np.int64), heat)
    assert [0 if owner is None else owner + 1 for owner in owners] == CASE["cluster_label"].tolist()


def test_reading_the_mask_as_the_official_code_lets_it_grow() -> None:
    mask = torch.from_numpy(CASE["synthetic_bg_32"]) > 0
    official = shrink_mask(mask, 16, official=True)
    np.testing.assert_array_equal(official.numpy(), CASE["synthetic_bg_16_as_read"][0] > 0)
    ours = shrink_mask(mask, 16)
    assert abs(float(ours.float().mean()) - float(mask.float().mean())) < 0.02
    assert float(official.float().mean()) > float(ours.float().mean()) + 0.1
    assert not (ours & ~official).any()
