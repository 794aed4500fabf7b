-- Column D of the reference: the stories ST-002 and ST-007. Keys are UUIDs, so nothing rises with time;
-- times have no zone and keep microseconds; the log has neither created_at nor updated_at.
CREATE TABLE companies (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    name VARCHAR(255) NOT NULL
);

CREATE TABLE servicetitan_credentials (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    company_id UUID NOT NULL REFERENCES companies (id) ON DELETE CASCADE,
    environment VARCHAR(20) NOT NULL CHECK (environment IN ('integration', 'production')),
    client_id TEXT NOT NULL,
    client_secret TEXT NOT NULL,
    access_token TEXT,
    refresh_token TEXT,
    token_expires_at TIMESTAMP,
    connection_status VARCHAR(20) DEFAULT 'inactive' CHECK (connection_status IN ('active', 'inactive', 'error')),
    last_connection_attempt TIMESTAMP,
    created_at TIMESTAMP DEFAULT NOW(),
    updated_at TIMESTAMP DEFAULT NOW(),
    UNIQUE (company_id, environment)
);

CREATE TABLE servicetitan_sync_logs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    servicetitan_credential_id UUID NOT NULL REFERENCES servicetitan_credentials (id) ON DELETE CASCADE,
    sync_type VARCHAR(20) NOT NULL CHECK (sync_type IN ('manual', 'scheduled')),
    data_type VARCHAR(20) NOT NULL CHECK (data_type IN ('invoices', 'customers', 'both')),
    status VARCHAR(20) NOT NULL CHECK (status IN ('running', 'completed', 'failed')),
    started_at TIMESTAMP NOT NULL,
    completed_at TIMESTAMP,
    records_processed INTEGER DEFAULT 0,
    records_successful INTEGER DEFAULT 0,
    records_failed INTEGER DEFAULT 0,
    error_message TEXT,
    error_details JSON,
    processing_time_seconds INTEGER
);
