<?php

/**
 * Writes log files with real Monolog, as the application's client does.
 *
 * Reads a plan as JSON from stdin and writes to stdout what ran and which files are there:
 *
 *   main, errors      files; the second one, if any, gets what is of level error and above once more
 *   handler           stream, rotating (a file per day, by the clock of the machine, of which max_files stay), batches (arrays of
 *                     lines) or fingers_crossed (nothing until something is wrong, then all)
 *   level             below which nothing is written
 *   formatter         ignore_empty, stacktraces, escape_slashes, escape_unicode, date_format, no_line_feed, pretty
 *   microseconds      whether times have them
 *   processors        short names of Monolog's
 *   together          a folder and a number: waits until so many processes have come there, and takes its time between lines
 *   events            see ServiceTitanClientLog; at: seconds and microseconds since 1970, null: now
 */

declare(strict_types=1);

require __DIR__ . '/libraries.php';
require __DIR__ . '/ServiceTitanClientLog.php';

use Monolog\Formatter\JsonFormatter;
use Monolog\Handler\AbstractProcessingHandler;
use Monolog\Handler\BufferHandler;
use Monolog\Handler\FingersCrossedHandler;
use Monolog\Handler\HandlerInterface;
use Monolog\Handler\RotatingFileHandler;
use Monolog\Handler\StreamHandler;
use Monolog\Logger;
use Monolog\Processor\ProcessorInterface;
use Monolog\Processor\WebProcessor;

/** Writes what Monolog's formatter makes of a batch: no handler of Monolog's own writes that to a file. */
final class BatchFile extends AbstractProcessingHandler
{
    public function __construct(private readonly string $file, mixed $level)
    {
        parent::__construct($level);
    }

    public function handleBatch(array $records): void
    {
        file_put_contents($this->file, $this->getFormatter()->formatBatch($records) . "\n", FILE_APPEND);
    }

    protected function write($record): void
    {
        $this->handleBatch([$record]);
    }
}

/** @param array<string, mixed> $options */
function formatter(array $options): JsonFormatter
{
    $formatter = new JsonFormatter(
        JsonFormatter::BATCH_MODE_JSON,
        !($options['no_line_feed'] ?? false),
        $options['ignore_empty'] ?? false,
        $options['stacktraces'] ?? false,
    );
    if ($options['escape_slashes'] ?? false) {
        $formatter->removeJsonEncodeOption(JSON_UNESCAPED_SLASHES);
    }
    if ($options['escape_unicode'] ?? false) {
        $formatter->removeJsonEncodeOption(JSON_UNESCAPED_UNICODE);
    }
    $formatter->setJsonPrettyPrint($options['pretty'] ?? false);
    if (isset($options['date_format'])) {
        $formatter->setDateFormat($options['date_format']);
    }

    return $formatter;
}

/** @param array<string, mixed> $plan */
function handler(array $plan, string $file, string $level): HandlerInterface
{
    $kind = $plan['handler'] ?? 'stream';
    $handler = match ($kind) {
        'stream', 'fingers_crossed' => new StreamHandler($file, $level),
        'rotating' => new RotatingFileHandler($file, $plan['max_files'] ?? 0, $level),
        'batches' => new BatchFile($file, $level),
    };
    $handler->setFormatter(formatter($plan['formatter'] ?? []));

    return match ($kind) {
        'batches' => new BufferHandler($handler, 40, $level, true, true),
        'fingers_crossed' => new FingersCrossedHandler($handler, 'error'),
        default => $handler,
    };
}

/** Return one of Monolog's processors by its short name. */
function processor(string $name): ProcessorInterface
{
    $class = "Monolog\\Processor\\{$name}Processor";

    // A shell has no request: this is what a worker behind a web server would have.
    return $class === WebProcessor::class
        ? new WebProcessor(['REQUEST_URI' => '/sync?token=s3cr3t-in-a-query', 'REMOTE_ADDR' => '192.0.2.7', 'REQUEST_METHOD' => 'GET',
            'SERVER_NAME' => 'hub.example.com', 'HTTP_REFERER' => null])
        : new $class();
}

/** Return a time of Monolog's own, which tells its microseconds or not. */
function moment(int $seconds, int $microseconds, bool $isFine, \DateTimeZone $zone): \DateTimeInterface
{
    $at = (new Monolog\DateTimeImmutable($isFine, $zone))->setTimestamp($seconds)->modify("+$microseconds microseconds");
    if ($at->format('U u') !== sprintf('%d %06d', $seconds, $microseconds)) {
        throw new \LogicException("no such time: $seconds $microseconds, but {$at->format('U u')}");
    }

    return $at;
}

$plan = plan();
$isFine = $plan['microseconds'] ?? true;
$zone = new \DateTimeZone(date_default_timezone_get());
$handlers = [handler($plan, $plan['main'], $plan['level'] ?? 'debug')];
if (isset($plan['errors'])) {
    $handlers[] = handler($plan, $plan['errors'], 'error');
}
$channels = [];
foreach (['servicetitan', 'app'] as $name) {
    $channels[$name] = new Logger($name, $handlers);
    $channels[$name]->useMicrosecondTimestamps($isFine);
    foreach ($plan['processors'] ?? [] as $processor) {
        $channels[$name]->pushProcessor(processor($processor));
    }
}

$log = new ServiceTitanClientLog($channels);
if (isset($plan['together'])) {
    [$folder, $number] = $plan['together'];
    touch("$folder/" . getmypid());
    while (\count(glob("$folder/*")) < $number) {
        usleep(1_000);
    }
}
foreach ($plan['events'] as $event) {
    usleep(isset($plan['together']) ? 200 : 0);
    $log->log($event, $event['at'] === null ? null : moment($event['at'][0], $event['at'][1], $isFine, $zone));
}
foreach ($handlers as $handler) {
    $handler->close();
}
answer(['process' => getmypid()]);
