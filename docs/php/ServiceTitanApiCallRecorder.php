<?php

declare(strict_types=1);

namespace App\Module\ServiceTitan\Monitoring;

use App\Module\ServiceTitan\Entity\ServiceTitanCredential;
use Doctrine\DBAL\Connection;
use Doctrine\DBAL\Types\Types;
use Psr\Log\LoggerInterface;

/**
 * Records each call of the ServiceTitan API in the table servicetitan_api_calls, for the ServiceTitan monitor.
 *
 * A call that cannot be recorded is logged and otherwise ignored: monitoring must never fail a sync.
 * Call it once for each HTTP answer, also for retries, and with status code 0 where there was no answer.
 *
 * Give it a connection of its own (doctrine.dbal.connections): in that of the sync a call would vanish with a transaction
 * that is rolled back, and an insert that fails would end that transaction.
 */
final class ServiceTitanApiCallRecorder
{
    private const ENDPOINT_LENGTH = 255;

    /** With the offset: in the hour that clocks repeat, a time without it could be either. A column without a zone drops it. */
    private const TIME_FORMAT = 'Y-m-d H:i:s.vP';

    public function __construct(
        private readonly Connection $connection,
        private readonly LoggerInterface $logger,
    ) {
    }

    /**
     * @param string $endpoint     the path; a query string is cut off, it may hold personal data
     * @param int    $responseTime milliseconds
     * @param int    $statusCode   the HTTP status; 0: no answer
     */
    public function recordApiCall(
        ServiceTitanCredential $credential,
        string $endpoint,
        int $responseTime,
        int $statusCode
    ): void {
        try {
            $this->connection->insert(
                'servicetitan_api_calls',
                [
                    'service_titan_credential_id' => $credential->getId(),
                    'endpoint' => mb_substr(explode('?', $endpoint, 2)[0], 0, self::ENDPOINT_LENGTH),
                    'response_time' => max(0, $responseTime),
                    'status_code' => $statusCode,
                    'called_at' => (new \DateTimeImmutable())->format(self::TIME_FORMAT),
                ],
                [
                    'response_time' => Types::INTEGER,
                    'status_code' => Types::INTEGER,
                ],
            );
        } catch (\Throwable $error) {
            $this->logger->warning('ServiceTitan API call not recorded', ['error' => $error->getMessage()]);
        }
    }
}
