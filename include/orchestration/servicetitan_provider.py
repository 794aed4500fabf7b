"""
What Airflow asks for to show a form for connections of type ``servicetitan``, and to know their hook.

Airflow finds it through the entry point in ``servicetitan_monitor-*.dist-info``, which lies in the project's folder
(docs/decisions/0013). It is imported by every process of Airflow that looks for providers: it imports nothing.
"""

from __future__ import annotations

from typing import Any


def provider_info() -> dict[str, Any]:
    """
    Return this project as an Airflow provider (airflow/provider_info.schema.json; the form by provider.yaml.schema.json).

    A field whose type allows null may stay empty.
    """
    return {
        "package-name": "servicetitan-monitor",
        "name": "ServiceTitan",
        "description": "Watches the ServiceTitan integration of Hub Plus, and probes ServiceTitan's API.",
        "integrations": [
            {
                "integration-name": "ServiceTitan",
                "external-doc-url": "https://developer.servicetitan.io/docs/oauth20",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {
                "integration-name": "ServiceTitan",
                "python-modules": ["include.orchestration.servicetitan_hook"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "servicetitan",
                "hook-class-name": "include.orchestration.servicetitan_hook.ServiceTitanHook",
                "hook-name": "ServiceTitan",
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "port", "schema", "extra"],
                    "relabeling": {"login": "Client ID", "password": "Client Secret"},
                    "placeholders": {"login": "cid.…", "password": "cs1.…"},
                },
                "conn-fields": {
                    "app_key": {
                        "label": "Application Key",
                        "schema": {"type": "string", "format": "password", "minLength": 1},
                        "description": "Sent as ST-App-Key: the application's own key, not the client id.",
                    },
                    "tenant_id": {
                        "label": "Tenant ID",
                        "schema": {"type": "string", "pattern": "^[0-9]{1,20}$"},
                        "description": "The tenant's number in ServiceTitan.",
                    },
                    "environment": {
                        "label": "Environment",
                        "schema": {
                            "type": "string",
                            "enum": ["production", "integration"],
                            "default": "production",
                        },
                        "description": "Which of ServiceTitan's two platforms the client belongs to.",
                    },
                    "timeout": {
                        "label": "Timeout",
                        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 100},
                        "description": "Seconds for one call, signing in included; 10 if empty.",
                    },
                },
            }
        ],
    }
