"""The twelve leads, their order, and the linear identities that the limb leads obey.

Einthoven's and Goldberger's definitions make four of the six limb leads linear combinations of I and II
(Malmivuo & Plonsey, *Bioelectromagnetism*, 1995, section 15.2-15.5)::

    III = II - I      aVR = -(I + II) / 2      aVL = I - II / 2      aVF = II - I / 2
"""

from __future__ import annotations

import numpy as np

LEADS: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LIMB_LEADS: tuple[str, ...] = LEADS[:6]
CHEST_LEADS: tuple[str, ...] = LEADS[6:]

_INDEX_BY_FOLDED_NAME = {lead.lower(): index for index, lead in enumerate(LEADS)}

#: Limb leads as combinations of I and II, rows in the order of `LIMB_LEADS`. Shape: (6, 2).
LIMB_FROM_I_II = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [-0.5, -0.5], [1.0, -0.5], [-0.5, 1.0]])

#: `LIMB_IDENTITIES @ signal` is zero for leads that obey the identities of III, aVR, aVL and aVF. Shape: (4, 12).
LIMB_IDENTITIES = np.hstack([-LIMB_FROM_I_II[2:], np.eye(4), np.zeros((4, 6))])

#: Names of the four identities, in the order of the rows of `LIMB_IDENTITIES`.
IDENTITY_NAMES: tuple[str, ...] = ("III = II - I", "aVR = -(I + II)/2", "aVL = I - II/2", "aVF = II - I/2")

#: `LIMB_PROJECTION @ signal` is the nearest signal that obeys the identities; chest leads stay. Shape: (12, 12).
LIMB_PROJECTION = np.eye(12)
LIMB_PROJECTION[:6, :6] = LIMB_FROM_I_II @ np.linalg.pinv(LIMB_FROM_I_II)


def lead_index(name: str) -> int | None:
    """Index in `LEADS` of a name as publishers write it (`AVR`, `Lead II`, `MDC_ECG_LEAD_V1`); None for other names."""
    folded = name.strip().lower()
    for prefix in ("mdc_ecg_lead_", "lead ", "lead_", "lead", "ecg "):
        folded = folded.removeprefix(prefix)
    return _INDEX_BY_FOLDED_NAME.get(folded.strip())


def derive_limb_leads(signal: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill limb leads that are absent from those that are there, where the identities allow it.

    Any two of the six limb leads that are linearly independent determine I and II, and with them all six.

    Args:
        signal: millivolts; rows of absent leads are ignored. Shape: (12, T).
        present: mask of the leads that are in the signal. Shape: (12,).

    Returns:
        The signal with absent limb leads filled in, and the mask of leads that are there now.
    """
    signal, present = signal.copy(), np.asarray(present, dtype=bool).copy()
    known = np.flatnonzero(present[:6])
    basis = LIMB_FROM_I_II[known]
    if len(known) in (0, 6) or np.linalg.matrix_rank(basis) < 2:  # older NumPy has no rank of an empty matrix
        return signal, present
    i_and_ii = np.linalg.pinv(basis) @ signal[known].astype(np.float64)  # (2, T)
    absent = np.flatnonzero(~present[:6])
    signal[absent] = LIMB_FROM_I_II[absent] @ i_and_ii
    present[absent] = True
    return signal, present
