"""At most so many a second, in the time of the images."""

from __future__ import annotations


class RateLimit:
    """Lets every stamp through that lies far enough behind the last one let through; a jump back starts anew."""

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def allows(self, stamp_ns: int, max_rate_hz: float) -> bool:
        """Return whether this one may pass, and remember it if so.

        A hundredth of the period is forgiven, so that a camera of just that rate passes whole.

        Args:
            stamp_ns: the image's time.
            max_rate_hz: the highest rate; 0 lets everything pass.
        """
        if max_rate_hz > 0 and self._last_ns is not None:
            least_ns = 0.99e9 / max_rate_hz
            if 0 <= stamp_ns - self._last_ns < least_ns:
                return False
        self._last_ns = stamp_ns
        return True
