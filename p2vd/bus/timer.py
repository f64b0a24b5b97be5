"""Something that is called in a while, on the thread of the main loop."""

from collections.abc import Callable

from gi.repository import GLib


def later(delay_s: float, function: Callable[[], None]) -> None:
    """Have `function` called once in so many seconds on the GLib thread, which it must not keep waiting.

    May be called on any thread.
    """

    def once() -> bool:
        function()
        return False

    GLib.timeout_add(int(delay_s * 1000) + 1, once)
