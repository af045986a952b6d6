"""Leads against the textbook definitions, one lead at a time."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ecgscan_lite.ecg.leads import (
    LEADS,
    LIMB_FROM_I_II,
    LIMB_IDENTITIES,
    LIMB_LEADS,
    LIMB_PROJECTION,
    derive_limb_leads,
    lead_index,
)


@pytest.fixture
def signal(rng: np.random.Generator) -> np.ndarray:
    """Twelve leads from electrode potentials RA, LA, LL, V1-V6, by the definitions of the leads. Shape: (12, 50)."""
    ra, la, ll, *chest = rng.normal(size=(9, 50))
    limb = [la - ra, ll - ra, ll - la, ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (ra + la) / 2]
    return np.stack([*limb, *(v - (ra + la + ll) / 3 for v in chest)])


def test_identities_vanish_on_leads_made_from_electrodes(signal: np.ndarray) -> None:
    np.testing.assert_allclose(LIMB_IDENTITIES @ signal, 0, atol=1e-12)
    assert np.abs(LIMB_IDENTITIES @ np.roll(signal, 1, axis=0)).max() > 0.1


@pytest.mark.parametrize("there", list(combinations(range(6), 2)), ids=lambda pair: "+".join(LEADS[i] for i in pair))
def test_any_two_independent_limb_leads_give_the_other_four(signal: np.ndarray, there: tuple[int, int]) -> None:
    present = np.zeros(12, dtype=bool)
    present[[*there, *range(6, 12)]] = True
    full, now = derive_limb_leads(np.where(present[:, None], signal, np.nan), present)
    assert now.all()
    np.testing.assert_allclose(full, signal, atol=1e-12)


@pytest.mark.parametrize("there", [(), *[(lead,) for lead in range(6)]])
def test_fewer_than_two_limb_leads_stay_as_they_are(signal: np.ndarray, there: tuple[int, ...]) -> None:
    present = np.isin(np.arange(12), [*there, *range(6, 12)])
    full, now = derive_limb_leads(signal, present)
    np.testing.assert_array_equal(now, present)
    np.testing.assert_array_equal(full, signal)


def test_chest_leads_are_never_derived(signal: np.ndarray) -> None:
    _, now = derive_limb_leads(signal, np.arange(12) < 6)
    assert not now[6:].any()


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("spelling", ["{}", " {} ", "Lead {}", "lead_{}", "MDC_ECG_LEAD_{}", "ECG {}"])
def test_names_are_known_in_any_case(lead: str, spelling: str) -> None:
    for name in (lead, lead.lower(), lead.upper()):
        assert lead_index(spelling.format(name)) == LEADS.index(lead)


@pytest.mark.parametrize("name", ["", "V7", "V3R", "vx", "resp", "-aVR", "IIII", "V", "V10"])
def test_other_channels_are_no_leads(name: str) -> None:
    assert lead_index(name) is None


def test_limb_leads_come_first() -> None:
    assert LIMB_LEADS == ("I", "II", "III", "aVR", "aVL", "aVF")


def test_the_projection_gives_the_nearest_leads_that_obey_the_identities() -> None:
    signal = np.random.default_rng(0).normal(size=(12, 40))
    projected = LIMB_PROJECTION @ signal
    np.testing.assert_allclose(LIMB_IDENTITIES @ projected, 0, atol=1e-12)
    np.testing.assert_array_equal(projected[6:], signal[6:])
    nearest = LIMB_FROM_I_II @ np.linalg.lstsq(LIMB_FROM_I_II, signal[:6], rcond=None)[0]
    np.testing.assert_allclose(projected[:6], nearest)
