"""
Alembic's environment: runs the scripts on the connection that `include.warehouse.migration` opened.

There is no ``alembic.ini`` and no other way in: that module holds the advisory lock and owns the transaction.
"""

from __future__ import annotations

from alembic import context

from include.sync_health.errors import StorageError
from include.warehouse.migration import VERSION_TABLE
from include.warehouse.monitoring_session import MIGRATE, SCHEMA

connection = context.config.attributes.get("connection")
if connection is None:
    raise StorageError(f"the monitoring schema is migrated by our own command only: {MIGRATE}")

context.configure(
    connection=connection,
    version_table=VERSION_TABLE,
    version_table_schema=SCHEMA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
