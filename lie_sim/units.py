"""Units and constants: one internal unit system per domain, converted here and nowhere else.

| domain | length | time | mass | energy |
|---|---|---|---|---|
| springs, charges, pendulums | 1 | 1 | 1 | 1 (dimensionless) |
| solar system | astronomical unit | day (86,400 s, TDB) | solar mass | M☉ AU²/day² |
| molecules | Å | √(u/eV) Å = 10.18 fs (ASE's) | atomic mass unit u | eV |

The constants of the solar system are those of the DE421 ephemeris, so that Newton's law and the ephemeris
agree.

Reference: Folkner, Williams, Boggs, "The Planetary and Lunar Ephemeris DE 421", IPN Progress Report 42-178
(2009).
"""

from __future__ import annotations

KM_PER_AU = 149_597_870.6996262
"""Kilometres in one astronomical unit (DE421)."""

DAYS_PER_JULIAN_YEAR = 365.25

GM_SUN = 0.0002959122082855911
"""Gravitational parameter of the Sun, AU³/day² (DE421); with masses in solar masses it is G."""

SPEED_OF_LIGHT = 299_792.458 * 86_400.0 / KM_PER_AU
"""AU/day."""

JULIAN_DATE_J2000 = 2_451_545.0
"""Julian date of 2000 January 1, 12 h."""

COULOMB_EV_ANGSTROM = 14.399645478425668
"""e²/4πε₀ in eV Å (CODATA 2018)."""

HARTREE = 27.211386245988
"""eV (CODATA 2018)."""

BOHR = 0.529177210903
"""Å (CODATA 2018)."""

DEBYE = 0.20819433442462576
"""e Å (CODATA 2018)."""
