"""Which images to label next: pool strategies, and PCB's balanced pick around any of them. NumPy only.

from engines.active import available_strategies, pick, select
"""

from engines.active.base import Randomness, StrategyInfo
from engines.active.pcb import BalancedPicks, corrected_pcb, official_pcb
from engines.active.reasons import Reason
from engines.active.registry import available_strategies
from engines.active.selection import Pick, pick, select

__all__ = [
    "BalancedPicks",
    "Pick",
    "Randomness",
    "Reason",
    "StrategyInfo",
    "available_strategies",
    "corrected_pcb",
    "official_pcb",
    "pick",
    "select",
]
