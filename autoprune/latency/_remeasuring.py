"""Times are measured again after a phase in which the machine is much slower or faster than it was."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from autoprune.timing import Measured

APART = 1.2
"""A machine on which the dense network takes so many times what it took, or that it took of now, is in another state."""
LONGEST_S = 120.0
"""How long may be waited in all, in seconds."""
_PAUSE_S = 0.5


class Remeasuring:
    """Measures again what was measured in a slow or fast phase of the machine, as long as there is time for it.

    Processors have such phases of minutes (clock rates, neighbours on the same machine, how fast threads wake), in which
    networks of different sizes do not slow down alike: mobilenet_v2's dense network took 3.2 instead of 2.1 ms, and the
    quotient of a pruned one 0.65 instead of 0.57; on two threads 16 instead of 23 ms, and 0.74 instead of 0.81.

    Args:
        seconds: How long may be waited in all.
        say: Told when the waiting begins.
    """

    def __init__(self, seconds: float = LONGEST_S, say: Callable[[str], None] | None = None) -> None:
        self._left_s = seconds
        self._say = say or (lambda text: None)

    def best(self, measure: Callable[[], Measured], dense_s: float | None) -> Measured:
        """Measure until the dense network takes about what it did; in the end the times in which it was nearest to that.

        Args:
            measure: Times functions, one of them named "dense".
            dense_s: Seconds that the dense network took before; None if that is not known.
        """
        best = measure()
        if dense_s is None:
            return best
        usual_s = dense_s

        def apart(measured: Measured) -> float:
            return abs(math.log(_dense_s(measured) / usual_s))

        waited = False
        while apart(best) > math.log(APART) and self._left_s > 0:
            if not waited:
                self._say(
                    f"The machine is not as it was: the dense network takes {1e3 * _dense_s(best):.3g} instead of "
                    f"{1e3 * dense_s:.3g} ms; measuring again for up to {self._left_s:.0f} s"
                )
                waited = True
            began = time.monotonic()
            time.sleep(_PAUSE_S)
            best = min(best, measure(), key=apart)
            self._left_s -= time.monotonic() - began
        return best


def _dense_s(measured: Measured) -> float:
    return measured.timings["dense"].median_s
