"""Tests of `include.commands`."""
