"""Fixtures: one private bus a test session, one process under test a test."""

from tests.bus.fixtures import bus_address, client, face

__all__ = ["bus_address", "client", "face"]
