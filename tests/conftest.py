"""Spare the collector of cycles the thousands of tests and modules that stay to the end."""

import gc


def pytest_configure() -> None:
    gc.set_threshold(50_000, 20, 100)


def pytest_collection_finish() -> None:
    gc.freeze()
