-- Column A of the reference: what the Doctrine migrations Version20250729212400 and Version20250729223752 create.
-- No CHECK, no index but the foreign key's: the upstream has no more.
CREATE TABLE company (
    id SERIAL NOT NULL,
    company_name VARCHAR(255) NOT NULL,
    salesforce_id VARCHAR(255) DEFAULT NULL,
    intacct_id VARCHAR(255) DEFAULT NULL,
    marketing_enabled BOOLEAN DEFAULT false,
    certain_path BOOLEAN DEFAULT false,
    uuid UUID NOT NULL,
    created_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL,
    updated_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX unique_company_salesforce ON company (salesforce_id);
CREATE UNIQUE INDEX unique_company_intacct ON company (intacct_id);
CREATE UNIQUE INDEX unique_company_uuid ON company (uuid);
CREATE UNIQUE INDEX unique_company_certain_path ON company (certain_path) WHERE certain_path = true;

CREATE TABLE servicetitan_credentials (
    id SERIAL NOT NULL,
    company_id INT NOT NULL,
    environment VARCHAR(255) NOT NULL,
    client_id TEXT DEFAULT NULL,
    client_secret TEXT DEFAULT NULL,
    access_token TEXT DEFAULT NULL,
    refresh_token TEXT DEFAULT NULL,
    token_expires_at TIMESTAMP(0) WITHOUT TIME ZONE DEFAULT NULL,
    connection_status VARCHAR(255) DEFAULT 'inactive' NOT NULL,
    last_connection_attempt TIMESTAMP(0) WITHOUT TIME ZONE DEFAULT NULL,
    uuid UUID NOT NULL,
    created_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL,
    updated_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (company_id) REFERENCES company (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX unique_company_environment ON servicetitan_credentials (company_id, environment);

CREATE TABLE servicetitan_sync_logs (
    id SERIAL NOT NULL,
    service_titan_credential_id INT NOT NULL,
    sync_type VARCHAR(255) NOT NULL,
    data_type VARCHAR(255) NOT NULL,
    status VARCHAR(255) NOT NULL,
    started_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL,
    completed_at TIMESTAMP(0) WITHOUT TIME ZONE DEFAULT NULL,
    records_processed INT NOT NULL,
    records_successful INT NOT NULL,
    records_failed INT NOT NULL,
    error_message TEXT DEFAULT NULL,
    error_details JSON DEFAULT NULL,
    processing_time_seconds INT DEFAULT NULL,
    uuid UUID NOT NULL,
    created_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL,
    updated_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (service_titan_credential_id) REFERENCES servicetitan_credentials (id) ON DELETE CASCADE
);
CREATE INDEX IDX_6130E44BE19A4DEC ON servicetitan_sync_logs (service_titan_credential_id);
