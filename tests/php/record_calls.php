<?php

/**
 * Records API calls with docs/php/ServiceTitanApiCallRecorder.php, real Doctrine and real Monolog.
 *
 * Reads a plan as JSON from stdin and writes what came of it to stdout:
 *
 *   connection   Doctrine's parameters
 *   session      SQL that is run first on the recorder's connection, such as SET ROLE
 *   log          the file of its logger
 *   calls        [{credential, endpoint, response_time, status_code}]
 *   sync         with it, a second connection, which is in a transaction meanwhile: before (SQL of the sync), after (SQL after the
 *                calls; its error is answered), is_shared (the recorder has the sync's connection); it is rolled back
 *   instants     seconds since 1970, stored as the recorder would have stored them then
 */

declare(strict_types=1);

require __DIR__ . '/libraries.php';
require __DIR__ . '/ServiceTitanCredential.php';
require __DIR__ . '/../../docs/php/ServiceTitanApiCallRecorder.php';

use App\Module\ServiceTitan\Entity\ServiceTitanCredential;
use App\Module\ServiceTitan\Monitoring\ServiceTitanApiCallRecorder;
use Doctrine\DBAL\DriverManager;
use Monolog\Formatter\JsonFormatter;
use Monolog\Handler\StreamHandler;
use Monolog\Logger;

$plan = plan();
$handler = new StreamHandler($plan['log']);
$handler->setFormatter(new JsonFormatter());
$logger = new Logger('servicetitan', [$handler]);

$connection = DriverManager::getConnection($plan['connection']);
foreach ($plan['session'] ?? [] as $statement) {
    $connection->executeStatement($statement);
}
$sync = $plan['sync'] ?? null;
$other = $sync === null ? null : (($sync['is_shared'] ?? false) ? $connection : DriverManager::getConnection($plan['connection']));
if ($other !== null) {
    $other->beginTransaction();
    $other->executeStatement($sync['before']);
}

$recorder = new ServiceTitanApiCallRecorder($connection, $logger);
$thrown = [];
$from = microtime(true);
foreach ($plan['calls'] ?? [] as $call) {
    try {
        $recorder->recordApiCall(
            new ServiceTitanCredential($call['credential']),
            $call['endpoint'],
            $call['response_time'],
            $call['status_code'],
        );
    } catch (\Throwable $error) {
        $thrown[] = $error::class . ': ' . $error->getMessage();
    }
}
$to = microtime(true);

$refused = null;
if ($other !== null) {
    try {
        $other->executeStatement($sync['after']);
    } catch (\Throwable $error) {
        $refused = $error->getMessage();
    }
    $other->rollBack();
}

$format = (new \ReflectionClassConstant(ServiceTitanApiCallRecorder::class, 'TIME_FORMAT'))->getValue();
$zone = new \DateTimeZone(date_default_timezone_get());
foreach ($plan['instants'] ?? [] as $seconds) {
    $connection->insert('servicetitan_api_calls', [
        'service_titan_credential_id' => 1,
        'endpoint' => '/',
        'response_time' => 1,
        'status_code' => 200,
        'called_at' => (new \DateTimeImmutable("@$seconds"))->setTimezone($zone)->format($format),
    ]);
}

$method = new \ReflectionMethod(ServiceTitanApiCallRecorder::class, 'recordApiCall');
$parameters = array_map(
    static fn (\ReflectionParameter $each): string => basename(strtr((string) $each->getType(), '\\', '/')) . ' $' . $each->getName(),
    $method->getParameters(),
);
answer([
    'thrown' => $thrown,
    'refused' => $refused,
    'from' => $from,
    'to' => $to,
    'signature' => sprintf('%s(%s): %s', $method->getName(), implode(', ', $parameters), $method->getReturnType()),
]);
