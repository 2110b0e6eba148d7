"""What Alembic runs to get a connection; `migrate.upgrade` hands it over."""

from alembic import context

from llm_router.router.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
