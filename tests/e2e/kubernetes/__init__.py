"""Tests on a whole cluster, which goes when they are through."""
