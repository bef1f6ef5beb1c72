"""Tests of the charts, for whose own API server the same holds as in tests/api."""
