"""Alembic's scripts for the monitoring schema; run by `include.warehouse.migration` only."""
