"""Tests of the resource and its operator on a real API server; the server goes when they are through."""
