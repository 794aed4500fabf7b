<?php

declare(strict_types=1);

use Monolog\Logger;

/** Logs what the application's client logs: its messages, levels and keys, with what PHP has in a context. */
final class ServiceTitanClientLog
{
    /** @param array<string, Logger> $channels by name */
    public function __construct(private readonly array $channels)
    {
    }

    /**
     * Log one event of a plan.
     *
     * @param array<string, mixed> $event event, channel, at (as Monolog's date; null: now), credential, method, endpoint,
     *                                    status, took, secret, number
     */
    public function log(array $event, ?\DateTimeInterface $at): void
    {
        [$level, $message, $context] = $this->line($event);
        $logger = $this->channels[$event['channel']];
        if ($at === null) {
            $logger->log($level, $message, $context);
        } else {
            $logger->addRecord(Logger::toMonologLevel($level), $message, $context, $at);
        }
    }

    /**
     * @param array<string, mixed> $event
     *
     * @return array{string, string, array<string, mixed>} level, message, context
     */
    private function line(array $event): array
    {
        $method = $event['method'] ?? 'GET';
        $secret = $event['secret'] ?? '';
        $id = ['credential_id' => $event['credential'] ?? null];
        $endpoint = ['endpoint' => $event['endpoint'] ?? null];
        $tried = ['retry_count' => $event['number'] ?? 1];

        return match ($event['event']) {
            'request' => ['info', "ServiceTitan API $method request", $endpoint + $this->params($method, $secret) + $id],
            'answer' => [
                'debug',
                'ServiceTitan API response processed',
                ['method' => $method] + $endpoint + ['status_code' => $event['status']] + $id + ($event['took'] ?? []),
            ],
            'failed' => [
                'error',
                "ServiceTitan API $method request failed",
                $endpoint + ['error' => "cURL error 28: \"timed out\"\nfor https://x/?token=$secret"] + $id
                    + ['exception' => $this->exception($secret)],
            ],
            'retried' => ['warning', 'ServiceTitan API request failed, retrying', $tried + ['error' => "Bearer $secret"] + $id],
            'exhausted' => [
                'error',
                'ServiceTitan API request failed after all retries',
                $tried + ['error' => $this->exception($secret)] + $id,
            ],
            'undecoded' => [
                'error',
                'Failed to decode ServiceTitan API response',
                ['method' => $method] + $endpoint + ['error' => 'Syntax error', 'exception' => $this->exception($secret)] + $id,
            ],
            'refused' => [
                'error',
                'ServiceTitan API error',
                ['error' => $secret, 'api_endpoint' => $event['endpoint'], 'response_code' => $event['status'],
                    'credentialId' => $event['credential']],
            ],
            'limited' => [
                'warning',
                'ServiceTitan API rate limit exceeded',
                $id + ['retry_after_seconds' => 60, 'retry_after_timestamp' => new \DateTimeImmutable('+60 seconds')],
            ],
            'limited again' => ['info', 'ServiceTitan API rate limited, waiting before retry', $tried + ['delay_seconds' => 60] + $id],
            'login limited' => ['info', 'Rate limited, waiting before retry', $tried + ['delay_seconds' => 1.5]],
            'opened' => ['warning', 'Circuit breaker opened', $id + ['failure_count' => 5, 'threshold' => 5]],
            'other' => $this->other($event['number'], $id, $secret),
        };
    }

    /** @return array<string, mixed> what only the GET of the client logs */
    private function params(string $method, string $secret): array
    {
        return $method !== 'GET' ? [] : ['params' => [
            'page' => 1,
            'pageSize' => 500,
            'email' => $secret,
            'modifiedOnOrAfter' => new \DateTimeImmutable('2026-01-31 23:59:59.5', new \DateTimeZone('Asia/Kolkata')),
            'active' => null,
            'share' => 0.1 + 0.2,
            'path' => '/a/b\\c',
            'name' => "Zoë ☕ \u{1F600} \u{2028} \u{0}",
            'ids' => [[1, [2, ['datetime' => '2020-01-01T00:00:00.000000+00:00', 'credential_id' => 1]]], []],
        ]];
    }

    private function exception(string $secret): \Throwable
    {
        $cause = new \InvalidArgumentException("ServiceTitan API GET request {\"credential_id\":1,\"token\":\"$secret\"}", 429);

        return new \RuntimeException("API GET request failed: $secret at /srv/app/«src»", 500, $cause);
    }

    /**
     * @param array<string, mixed> $id
     *
     * @return array{string, string, array<string, mixed>} a line that tells of no call
     */
    private function other(int $number, array $id, string $secret): array
    {
        $lines = [
            ['info', 'Rate limit throttling applied', $id + ['delay_seconds' => 1]],
            ['info', 'Updated rate limit from API headers', $id + ['new_limit' => 60, 'previous_limit' => 120]],
            ['debug', 'Request recorded for rate limiting', []],
            ['info', 'Token expired or invalid, attempting refresh', $id],
            ['error', 'OAuth handshake failed', ['client_id' => $secret, 'status_code' => 401, 'error' => 'invalid_client',
                'error_description' => null]],
            ['info', 'Circuit breaker reset to closed state', $id],
            ['warning', 'ServiceTitan API call not recorded', ['error' => $secret]],
            ['error', 'ServiceTitan API error during scheduled sync', ['credentialId' => 1, 'exception' => $this->exception($secret)]],
            ['info', 'API call successful', ['status_code' => 200, 'access_token_preview' => substr($secret, 0, 20),
                'body' => ['message' => 'ServiceTitan API GET request', 'data' => array_fill(0, 1_200, ['email' => $secret])]]],
            ['warning', 'ServiceTitan sync alerts generated', ['alertCount' => 2, 'alerts' => [['message' => 'Circuit breaker opened'],
                ['message' => 'Rate limited, waiting before retry', 'rate' => 99.5]]]],
            ['info', 'Zoë’s sync of {dataType} is done ☕', ['dataType' => 'invoices', 'elapsed' => \INF, 'level' => [[[[[[[[[[[1]]]]]]]]]]]]],
            ['critical', 'Uncaught PHP Exception', ['exception' => $this->exception($secret)]],
        ];

        return $lines[$number % \count($lines)];
    }
}
