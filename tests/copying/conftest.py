"""Settings for the property tests of this room."""

from hypothesis import settings

# Machines that are shared stop for a second now and then: no test here judges time.
settings.register_profile("p2vd-copying", deadline=None)
settings.load_profile("p2vd-copying")
