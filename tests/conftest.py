"""What holds for all tests: the collector of cycles, and how Hypothesis draws."""

import gc

from hypothesis import HealthCheck, settings

# How long a draw takes says how busy the machine is, and nothing of the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_configure() -> None:
    """Spare the collector the thousands of tests and modules that stay to the end."""
    gc.set_threshold(50_000, 20, 100)


def pytest_collection_finish() -> None:
    gc.freeze()
