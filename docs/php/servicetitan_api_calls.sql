-- What the ServiceTitan monitor reads of the application's API calls; see docs/api-calls.md.
-- No foreign key: a call stays a call when its credential is gone, and each insert is spared a look-up.
CREATE TABLE servicetitan_api_calls (
    id                          BIGSERIAL PRIMARY KEY,
    service_titan_credential_id INT NOT NULL,
    endpoint                    VARCHAR(255) NOT NULL,
    response_time               INT DEFAULT NULL,
    status_code                 SMALLINT NOT NULL,
    called_at                   TIMESTAMP(3) WITH TIME ZONE NOT NULL
);

-- The monitor's reads and the deletion of old rows go by it.
CREATE INDEX idx_servicetitan_api_calls_called_at ON servicetitan_api_calls (called_at);

COMMENT ON COLUMN servicetitan_api_calls.endpoint IS 'The path, with or without ids; never a query string.';
COMMENT ON COLUMN servicetitan_api_calls.response_time IS 'Milliseconds; NULL: not measured.';
COMMENT ON COLUMN servicetitan_api_calls.status_code IS 'The HTTP status; 0: no answer.';
COMMENT ON COLUMN servicetitan_api_calls.called_at IS 'When the call was recorded: at its answer.';
