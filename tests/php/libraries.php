<?php

/** What both programs of the tests load, and what they say of it; psr/log, Monolog and Doctrine stand on PHP's include_path. */

declare(strict_types=1);

// A notice of PHP is a mistake here, not a line on stderr; what the libraries themselves call deprecated is their business.
set_error_handler(static function (int $level, string $message, string $file, int $line): bool {
    if (!(error_reporting() & $level) || \in_array($level, [E_DEPRECATED, E_USER_DEPRECATED], true)) {
        return false;
    }
    throw new \ErrorException($message, 0, $level, $file, $line);
});
error_reporting(E_ALL & ~E_DEPRECATED & ~E_USER_DEPRECATED);

foreach (['Psr/Log', 'Monolog', 'Doctrine/DBAL'] as $library) {
    if (stream_resolve_include_path("$library/autoload.php") === false) {
        fwrite(STDERR, "$library/autoload.php is not on PHP's include_path: run .ci/setup php\n");
        exit(3);
    }
    require_once "$library/autoload.php";
}

/** @return array<string, int|string> what runs here */
function versions(): array
{
    return [
        'php' => PHP_VERSION,
        'monolog' => \Monolog\Logger::API,
        // It tells no version of itself; this interface ended with DBAL 3.
        'dbal' => interface_exists(\Doctrine\DBAL\VersionAwarePlatformDriver::class) ? 3 : 4,
        'timezone' => date_default_timezone_get(),
    ];
}

/** @return array<string, mixed> what the test wants done */
function plan(): array
{
    return json_decode(stream_get_contents(STDIN), true, 64, JSON_THROW_ON_ERROR);
}

/** @param array<string, mixed> $answer what was done */
function answer(array $answer): void
{
    echo json_encode($answer + versions(), JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE), "\n";
}
