-- Column C of the reference: the architecture document's section 9.1.
-- Plural companies with a name, credential_id without cascade, times with a zone, only records_processed,
-- no updated_at in the log, and CHECKs on every enumeration.
CREATE TABLE companies (
    id SERIAL PRIMARY KEY,
    name VARCHAR(255) NOT NULL
);

CREATE TABLE servicetitan_credentials (
    id SERIAL PRIMARY KEY,
    company_id INTEGER NOT NULL REFERENCES companies (id),
    tenant_id VARCHAR(255) NOT NULL,
    environment VARCHAR(50) NOT NULL CHECK (environment IN ('integration', 'production')),
    client_id TEXT NOT NULL,
    client_secret TEXT NOT NULL,
    access_token TEXT,
    refresh_token TEXT,
    token_expires_at TIMESTAMPTZ,
    connection_status VARCHAR(50) DEFAULT 'pending' CHECK (connection_status IN ('pending', 'connected', 'error')),
    last_sync_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW(),
    UNIQUE (company_id, environment)
);

CREATE TABLE servicetitan_sync_logs (
    id SERIAL PRIMARY KEY,
    credential_id INTEGER NOT NULL REFERENCES servicetitan_credentials (id),
    sync_type VARCHAR(50) NOT NULL CHECK (sync_type IN ('manual', 'scheduled')),
    data_type VARCHAR(50) NOT NULL CHECK (data_type IN ('invoices', 'customers', 'both')),
    status VARCHAR(50) NOT NULL CHECK (status IN ('running', 'completed', 'failed')),
    started_at TIMESTAMPTZ NOT NULL,
    completed_at TIMESTAMPTZ,
    records_processed INTEGER DEFAULT 0,
    error_message TEXT
);
