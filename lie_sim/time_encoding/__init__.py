"""Functions of time: maps of a time to features, and the periods that samples of a signal contain."""

from lie_sim.time_encoding.maps import BochnerTime, MercerTime, TimeMap, build_time_map, register_time_map
from lie_sim.time_encoding.spectrum import Spectrum, spectral_frequencies

__all__ = [
    "BochnerTime",
    "MercerTime",
    "Spectrum",
    "TimeMap",
    "build_time_map",
    "register_time_map",
    "spectral_frequencies",
]
