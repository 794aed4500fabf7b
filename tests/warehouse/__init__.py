"""Tests of `include.warehouse`."""
