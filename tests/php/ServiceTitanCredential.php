<?php

declare(strict_types=1);

namespace App\Module\ServiceTitan\Entity;

/** The application's entity, as far as ServiceTitanApiCallRecorder looks at it: an identity that is null until it is stored. */
final class ServiceTitanCredential
{
    public function __construct(private readonly ?int $id)
    {
    }

    public function getId(): ?int
    {
        return $this->id;
    }
}
